"""Several boxes behind one router: the real programs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx

from tests.e2e.pair import ask, chat, fake
from tests.harness import Server, client, router, sidecar, until

BOXES = ("first", "second")


@asynccontextmanager
async def fleet(tmp: Path, *models: str) -> AsyncIterator[tuple[list[Server], httpx.AsyncClient]]:
    """A box per entry of `models`, which is the body of its `models:`."""
    for folder in (*BOXES, "router"):
        (tmp / folder).mkdir()
    texts = [
        f"box: {name}\nmemory_limit: 1GiB\nmodels:\n{lines}"
        for name, lines in zip(BOXES, models, strict=True)
    ]
    async with (
        sidecar(tmp / "first", texts[0]) as first,
        sidecar(tmp / "second", texts[1]) as second,
        router(tmp / "router", f"sidecars: [{{url: '{first.url}'}}, {{url: '{second.url}'}}]") as r,
        client(r.url, timeout=30) as http,
    ):

        async def both_heard() -> bool:
            boxes: list[dict[str, Any]] = (await http.get("/api/fleet")).json()["boxes"]
            return all(box["live"] for box in boxes)

        await until(both_heard)
        yield [first, second], http


async def test_a_request_goes_to_the_box_that_has_the_model(tmp_path: Path) -> None:
    async with fleet(tmp_path, fake("one"), fake("two")) as (_, http):
        for model, box in (("one", "first"), ("two", "second")):
            answer = await http.post("/v1/chat/completions", json=chat(model, stream=False))
            assert answer.headers["x-swapyard-box"] == box
        listed = (await http.get("/v1/models")).json()["data"]
        assert {item["id"]: item["boxes"] for item in listed} == {
            "one": ["first"],
            "two": ["second"],
        }


async def test_two_models_that_exclude_each_other_stay_loaded_on_two_boxes(tmp_path: Path) -> None:
    models = fake("one", "--load-seconds", "0.5") + fake("two", "--load-seconds", "0.5")
    async with fleet(tmp_path, models, models) as (_, http):
        async with anyio.create_task_group() as group:
            group.start_soon(ask, http, chat("one"))
            group.start_soon(ask, http, chat("two"))
        for model in ("one", "two"):
            told = await ask(http, chat(model))
            assert told.done
            assert told.switching == []  # nobody waited: it is still loaded


async def test_a_model_moves_to_another_box_when_its_box_is_gone(tmp_path: Path) -> None:
    async with fleet(tmp_path, fake("one"), fake("one")) as (boxes, http):
        answer = await http.post("/v1/chat/completions", json=chat("one", stream=False))
        gone = BOXES.index(answer.headers["x-swapyard-box"])
        boxes[gone].program.terminate()
        await boxes[gone].program.wait()
        again = await http.post("/v1/chat/completions", json=chat("one", stream=False))
        assert again.headers["x-swapyard-box"] == BOXES[1 - gone]
