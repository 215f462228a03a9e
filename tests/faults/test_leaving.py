"""F42 to F45: clients that leave, in each state that a request can be in. Whoever leaves is left by
the engine, has its slot given back, causes no load, and takes nothing from those who stay.

How soon that is, `bench/leaving.py` measures.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.pair import ask, chat, fake
from tests.fakes.chaos import reset
from tests.faults.streams import CHAT, Yard, engine, journal_of, posted, yard
from tests.harness import until

SLOW = ("--tokens", "1000000", "--tokens-per-second", "100")
LEAVE: dict[str, Callable[[asyncio.StreamWriter], None]] = {
    "closes": asyncio.StreamWriter.close,
    "resets": reset,
}
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(scope="module")
async def it(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    """`busy` and `big` do not fit together; `long` loads for as long as the tests run."""
    folder = tmp_path_factory.mktemp("leaving")
    big = fake("big", "--journal", str(journal_of(folder, "big")))
    models = [
        engine(folder, "busy", *SLOW).replace("10MiB", "400MiB"),
        big,
        engine(folder, "single", *SLOW, more=", slots: 1"),
        engine(folder, "prefill", "--first-token-seconds", "3600"),
        engine(folder, "long", "--load-seconds", "3600"),
        engine(folder, "short", "--load-seconds", "1"),
        engine(folder, "warm"),
    ]
    async with yard(folder, "".join(models), "warm") as it:
        for model in ("busy", "single", "prefill"):
            await begun(it, model)
        await begun(it, "long", "started")
        yield it


async def begun(it: Yard, model: str, event: str = "request") -> None:
    """It is loaded, or loads, because somebody wanted it who has left."""
    _, writer = await posted(it.pair.router.url, chat(model))
    await until(lambda: it.noted(model, event))
    writer.close()
    await it.idle(model)


async def hears(client: Client, said: bytes) -> None:
    async with asyncio.timeout(10):
        while said not in await client[0].readline():
            assert not client[0].at_eof()


async def waits(it: Yard, model: str, count: int) -> None:
    """Wait until the box knows that so many wait, and no more."""

    async def counted() -> bool:
        return bool((await it.of(model))["waiting"] == count)

    await until(counted)


async def nobody_is_in_line(it: Yard) -> None:
    async def empty() -> bool:
        """the router's line is empty"""
        return not (await it.http.get("/api/fleet")).json()["line"]

    await until(empty)


# F42: in the line.


@pytest.mark.parametrize("leaves", LEAVE)
async def test_f42_a_client_that_leaves_the_line_never_causes_a_load(it: Yard, leaves: str) -> None:
    running = await posted(it.pair.router.url, chat("busy"))
    await hears(running, b" tok1")
    waiting = await posted(it.pair.router.url, chat("big"))
    await hears(waiting, b"model_switching")
    await waits(it, "big", 1)
    LEAVE[leaves](waiting[1])
    await it.idle("big")
    await nobody_is_in_line(it)
    await hears(running, b"tok")
    running[1].close()
    await it.idle("busy")
    assert it.noted("big", "started") == []


@pytest.mark.parametrize("leaves", LEAVE)
@pytest.mark.parametrize("stream", [True, False])
async def test_f42_a_client_that_leaves_the_line_for_a_slot_never_reaches_the_engine(
    it: Yard, leaves: str, stream: bool
) -> None:
    before = len(it.noted("single", "request"))
    running = await posted(it.pair.router.url, chat("single"))
    await hears(running, b" tok1")
    waiting = await posted(it.pair.router.url, chat("single", stream=stream))
    stays = await posted(it.pair.router.url, chat("single"))
    await waits(it, "single", 2)
    LEAVE[leaves](waiting[1])
    await waits(it, "single", 1)
    running[1].close()
    await hears(stays, b" tok1")
    assert len(it.noted("single", "request")) == before + 2
    stays[1].close()
    await it.idle("single")


# F43: while the model loads.


@pytest.mark.parametrize("leaves", LEAVE)
@pytest.mark.parametrize("stream", [True, False])
async def test_f43_a_client_that_leaves_during_a_load_is_wanted_no_more(
    it: Yard, leaves: str, stream: bool
) -> None:
    waiting = await posted(it.pair.router.url, chat("long", stream=stream))
    await waits(it, "long", 1)
    LEAVE[leaves](waiting[1])
    await it.idle("long")
    await nobody_is_in_line(it)
    assert len(it.noted("long", "started")) == 1
    await it.well("warm")


async def test_f43_of_ten_that_wait_for_a_load_nine_leave_and_the_tenth_is_served(
    it: Yard,
) -> None:
    tenth = asyncio.ensure_future(ask(it.http, chat("short")))
    await waits(it, "short", 1)
    others = [await posted(it.pair.router.url, chat("short")) for _ in range(9)]
    await waits(it, "short", 10)
    for number, (_, writer) in enumerate(others):
        LEAVE["resets" if number % 2 else "closes"](writer)
    assert (await tenth).done
    assert len(it.noted("short", "started")) == 1
    assert len(it.noted("short", "request")) == 1
    await unloaded(it, "short")


async def unloaded(it: Yard, model: str) -> None:
    """By hand: this test is the one that has started it."""
    await it.idle(model)
    async with httpx.AsyncClient(base_url=it.pair.sidecar.url, trust_env=False) as http:
        await http.post(f"/models/{model}/unload")

    async def gone() -> bool:
        return await it.pair.phase(model) == "idle"

    await until(gone)


# F44 and F45: once the engine has the request.


async def left(
    it: Yard, body: dict[str, Any], leaves: str, said: bytes = b"", path: str = CHAT
) -> None:
    """One asks, hears that, leaves, and is left by the engine."""
    model = body["model"]
    asked, gone = len(it.noted(model, "request")), len(it.noted(model, "gone"))
    client = await posted(it.pair.router.url, body, path)
    await until(lambda: len(it.noted(model, "request")) > asked)
    if said:
        await hears(client, said)
    LEAVE[leaves](client[1])
    await until(lambda: len(it.noted(model, "gone")) > gone)
    await it.idle(model)
    assert len(it.noted(model, "request")) == asked + 1  # it was not asked again
    assert it.noted(model, "request")[-1]["path"] == path
    assert it.noted(model, "answered") == []
    await it.well("warm")


@pytest.mark.parametrize("leaves", LEAVE)
async def test_f44_a_client_that_leaves_in_mid_stream_is_left_by_its_engine(
    it: Yard, leaves: str
) -> None:
    await left(it, chat("busy"), leaves, b" tok1")


@pytest.mark.parametrize("leaves", LEAVE)
async def test_f44_one_that_leaves_takes_nothing_from_one_that_stays(it: Yard, leaves: str) -> None:
    stays = await posted(it.pair.router.url, chat("busy"))
    await hears(stays, b" tok1")
    leaving = await posted(it.pair.router.url, chat("busy"))
    await hears(leaving, b" tok1")
    gone = len(it.noted("busy", "gone"))
    LEAVE[leaves](leaving[1])
    await until(lambda: len(it.noted("busy", "gone")) == gone + 1)
    made = it.noted("busy", "gone")[-1]["tokens"]
    await hears(stays, b" tok%d" % (made + 10))
    stays[1].close()
    await it.idle("busy")


OTHERS = {  # that have a body of their own
    "/v1/completions": {"model": "prefill", "stream": True, "prompt": "Hi"},
    "/v1/embeddings": {"model": "prefill", "input": ["Hi", "you"]},
}


@pytest.mark.parametrize("leaves", LEAVE)
@pytest.mark.parametrize("path", [CHAT, *OTHERS])
async def test_f45_a_client_that_leaves_before_the_first_byte_is_left_by_its_engine(
    it: Yard, path: str, leaves: str
) -> None:
    await left(it, OTHERS.get(path, chat("prefill")), leaves, path=path)


@pytest.mark.parametrize("leaves", LEAVE)
async def test_f45_a_client_whose_long_body_comes_at_once_is_left_by_its_engine(
    it: Yard, leaves: str
) -> None:
    """All of it in one read, while the router waits for it: so it need not look again."""
    where, router = httpx.URL(it.pair.router.url), psutil.Process(it.pair.router.program.pid)
    client = await asyncio.open_connection(where.host, where.port)
    for _ in range(4):  # the kernel gives such a connection more room by and by
        await body_at_once(client, "warm", router)
        await client[0].readuntil(b"predicted_n")
    asked, gone = len(it.noted("prefill", "request")), len(it.noted("prefill", "gone"))
    await body_at_once(client, "prefill", router)
    await until(lambda: len(it.noted("prefill", "request")) > asked)
    LEAVE[leaves](client[1])
    await until(lambda: len(it.noted("prefill", "gone")) > gone)
    await it.idle("prefill")


async def body_at_once(client: Client, model: str, router: psutil.Process) -> None:
    body = json.dumps({**chat(model, stream=False), "user": "x" * 150_000}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
    client[1].write(f"{head}Expect: 100-continue\r\n\r\n".encode())
    await hears(client, b"100 Continue")
    router.suspend()
    try:
        client[1].write(body)
        await until(lambda: client[1].transport.get_write_buffer_size() == 0)
    finally:
        router.resume()


@pytest.mark.parametrize("leaves", LEAVE)
async def test_f45_a_client_that_hears_progress_before_the_first_byte_is_left_by_its_engine(
    it: Yard, leaves: str
) -> None:
    await left(it, chat("prefill"), leaves, b'"reason":"resident"')


@pytest.mark.parametrize("leaves", LEAVE)
@pytest.mark.parametrize("model", ["prefill", "busy"])
async def test_f45_a_client_that_leaves_without_a_stream_is_left_by_its_engine(
    it: Yard, model: str, leaves: str
) -> None:
    await left(it, chat(model, stream=False), leaves)
