"""Several boxes behind one router: the real programs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx

from tests.e2e.pair import ask, chat, fake
from tests.harness import Server, client, free_port, router, sidecar, until

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


async def test_a_box_that_comes_later_serves_who_waits_elsewhere(tmp_path: Path) -> None:
    for folder in (*BOXES, "router"):
        (tmp_path / folder).mkdir()
    slow = fake("one", "--load-seconds", "60")
    quick = fake("one", more=", served_name: another-name")
    port = free_port()
    urls = f"sidecars: [{{url: 'http://127.0.0.1:{port}'}}, {{url: '%s'}}]"
    async with (
        sidecar(tmp_path / "first", f"box: first\nmodels:\n{slow}") as first,
        router(tmp_path / "router", urls % first.url) as front,
        client(front.url, timeout=30) as http,
    ):
        answers: list[Any] = []

        async def wait_for_it() -> None:
            answers.append(await ask(http, chat("one")))

        async def somebody_waits() -> bool:
            return bool((await http.get("/api/fleet")).json()["line"])

        async with anyio.create_task_group() as group:
            group.start_soon(wait_for_it)
            await until(somebody_waits)
            text = f"box: second\nmodels:\n{quick}"
            async with (
                sidecar(tmp_path / "second", text, port=port) as second,
                client(second.url) as by_hand,
            ):
                await by_hand.post("/models/one/load")
                await until(lambda: answers)
        assert answers[0].done
        assert answers[0].chunks[0]["model"] == "another-name"


async def test_a_model_of_a_box_that_was_never_heard_may_come(tmp_path: Path) -> None:
    (tmp_path / "router").mkdir()
    text = f"sidecars: [{{url: 'http://127.0.0.1:{free_port()}'}}]"
    async with router(tmp_path / "router", text) as front, client(front.url) as http:
        answer = await http.post("/v1/chat/completions", json=chat("one", stream=False))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "box_unreachable")
    assert answer.headers["x-should-retry"] == "true"
