"""Clients that watch loads beside their stream, by llama-server's protocol: all of it is real."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from shared.status import Step
from tests.e2e.pair import Pair, ask, chat, embedded, make_model, pair
from tests.harness import children_of, client, frames, until

PROBES = [
    "/models",
    "/models/sse",
    "/props",
    "/props?model=big",
    "/slots",
    "/slots?model=big",
    "/slots?model=nobody",
    "/v1/models",
    "/v1/models/big",
    "/api/v1/models",
    "/api/tags",
    "/v1/props",
    "/version",
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """The big one is large enough to be seen loading."""
    folder = tmp_path_factory.mktemp("models")
    yield {name: make_model(folder, name) for name in ("tiny", "demo-big")}
    (folder / "demo-big.gguf").unlink()  # pytest would keep its 400 MB for three runs


@pytest.fixture
async def watched(tmp_path: Path, files: dict[str, Path]) -> AsyncIterator[Pair]:
    """Two real models that do not fit together."""
    text = embedded("small", files["tiny"]) + embedded("big", files["demo-big"])
    async with pair(tmp_path, text, router_yaml="models: {big: {aliases: [chat]}}") as both:
        yield both


@asynccontextmanager
async def watching(url: str) -> AsyncIterator[AsyncIterator[tuple[str, dict[str, Any]]]]:
    """The events of `/models/sse`, as one who does not know us reads them."""
    async with client(url, timeout=30) as http, http.stream("GET", "/models/sse") as response:
        yield changes(response)


async def changes(response: httpx.Response) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    async for frame in frames(response):
        said = json.loads(frame.data)
        assert (frame.event, said["event"]) == ("message", "model_status")
        yield said["model"], said["data"]


@asynccontextmanager
async def slow_machine(both: Pair, file: str) -> AsyncIterator[None]:
    """While the block lasts, the engine of that file reads a little at a time. A fast machine would
    have it loaded before there is anything to tell."""

    async def reading() -> bool:
        return (await both.status())["step"] == Step.AWAITING_READINESS

    await until(reading)
    throttle = asyncio.ensure_future(throttled(engine_of(both, file)))
    try:
        yield
    finally:
        throttle.cancel()
        await asyncio.wait({throttle})


def engine_of(both: Pair, file: str) -> psutil.Process:
    children = children_of(both.sidecar.program.pid)
    return next(child for child in children if file in " ".join(child.cmdline()))


async def throttled(engine: psutil.Process) -> None:
    """llama.cpp reports once in 200 ms: each time it goes on, it has something to say."""
    try:
        while True:
            engine.suspend()
            await asyncio.sleep(0.25)
            engine.resume()
            await asyncio.sleep(0.005)
    finally:
        engine.resume()


def progress_in(seen: list[tuple[str, dict[str, Any]]]) -> list[float]:
    return [data["progress"]["value"] for _, data in seen if "progress" in data]


async def test_r0_6_who_watches_from_outside_sees_the_load_in_llama_servers_protocol(
    watched: Pair,
) -> None:
    await ask(watched.http, chat("small"))
    async with watching(watched.router.url) as told:
        assert [await anext(told), await anext(told)] == [
            ("big", {"status": "unloaded"}),
            ("small", {"status": "loaded"}),
        ]
        asking = asyncio.ensure_future(ask(watched.http, chat("big")))
        seen = [await anext(told)]
        async with slow_machine(watched, "demo-big.gguf"):
            while len(set(progress_in(seen))) < 3 and seen[-1] != ("big", {"status": "loaded"}):
                seen.append(await anext(told))
        while seen[-1] != ("big", {"status": "loaded"}):
            seen.append(await anext(told))
    assert (await asking).done
    assert seen[0] == ("big", {"status": "loading"}), "from the moment that the other leaves"
    assert ("small", {"status": "unloaded"}) in seen
    assert {data["status"] for model, data in seen[:-1] if model == "big"} == {"loading"}
    values = progress_in(seen)
    assert values == sorted(values)
    assert 0.0 < values[0] < values[1] < values[-1] < 1.0


async def test_a_prompt_that_is_being_read_can_be_watched(watched: Pair) -> None:
    body = chat("big")
    body["messages"][0]["content"] = "a word of mine " * 200
    asking = asyncio.ensure_future(ask(watched.http, body))

    async def reading() -> dict[str, Any] | None:
        response = await watched.http.get("/slots?model=chat")
        slots = response.json() if response.status_code == 200 else []
        busy = (slot for slot in slots if slot["is_processing"])
        return next((slot for slot in busy if slot["n_prompt_tokens_processed"]), None)

    slot = await until(reading, timeout=20)
    assert slot["box"] == "box1"
    assert not {"prompt", "generated", "params"} & slot.keys()
    assert (await asking).done


async def test_no_probe_loads_a_model_or_counts_as_its_use(watched: Pair) -> None:
    for target in PROBES:
        async with watched.http.stream("GET", target) as response:
            await anext(response.aiter_bytes())
    assert (await watched.status())["phase"] == "idle"
    await ask(watched.http, chat("small"))
    await until(lambda: nobody_wants_anything(watched))
    before = await watched.status()
    for target in [*PROBES, "/slots?model=small", "/props?model=small"]:
        async with watched.http.stream("GET", target) as response:
            await anext(response.aiter_bytes())
    assert facts_of_use(await watched.status()) == facts_of_use(before)


async def nobody_wants_anything(both: Pair) -> bool:
    """by the Status, which tells counts a little later than they change"""
    models = (await both.status())["models"]
    return not any(model[n] for model in models for n in ("in_flight", "waiting", "routers"))


def facts_of_use(status: dict[str, Any]) -> Any:
    told = ("id", "phase", "in_flight", "waiting", "routers", "load_s", "expires_in_s")
    models = [{name: model[name] for name in told} for model in status["models"]]
    return status["phase"], status["model"], status["switches"], status["plan"], models
