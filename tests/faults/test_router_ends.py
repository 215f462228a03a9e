"""F39, F40: the end of a router under load, by a signal or at once."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.e2e.pair import chat
from tests.faults.streams import Yard, engine, got, posted, yard
from tests.harness import until

LONG = ("--tokens", "60", "--tokens-per-second", "40")
ENDLESS = ("--tokens", "1000000", "--tokens-per-second", "50")


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Yard]:
    """A new pair for each test: what it does, no router survives."""
    models = [
        engine(tmp_path, "long", *LONG, more=", slots: 1"),
        engine(tmp_path, "endless", *ENDLESS, more=", slots: 4"),
    ]
    async with yard(tmp_path, "".join(models)) as it:
        yield it


async def waiting(it: Yard, model: str, count: int) -> None:
    async def counted() -> bool:
        return bool((await it.of(model))["waiting"] == count)

    await until(counted)


async def test_f40_a_router_that_is_told_to_go_finishes_its_streams_and_sends_away_the_rest(
    it: Yard,
) -> None:
    runs = asyncio.ensure_future(got(it.http, chat("long")))
    await until(lambda: it.noted("long", "request"))
    lines = [
        asyncio.ensure_future(got(it.http, chat("long", stream=stream), dialect))
        for stream, dialect in ((True, "events"), (True, "off"), (False, "off"))
    ]
    await waiting(it, "long", 3)
    it.pair.router.program.terminate()
    told, *refused = [await line for line in lines]
    assert (told.status, told.code) == (200, "shutting_down")
    late = await got(it.http, chat("long"))
    for one in (*refused, late):
        assert (one.status, one.code) == (503, "shutting_down")
        assert one.headers["x-should-retry"] == "true"
        assert int(one.headers["retry-after"]) >= 1
    assert (await it.http.get("/healthz")).status_code == 200
    ready = await it.http.get("/readyz")
    assert (ready.status_code, ready.text) == (503, "shutting down\n")
    whole = await runs
    assert whole.events[-1].data == "[DONE]"
    assert await it.pair.router.program.wait() == 0
    assert len(it.noted("long", "request")) == 1
    assert it.pair.sidecar.program.code is None


async def test_f40_the_second_signal_ends_it_now_and_its_streams_say_so(it: Yard) -> None:
    reader, writer = await posted(it.pair.router.url, chat("endless"))
    await asyncio.wait_for(reader.readuntil(b"tok1"), 10)
    it.pair.router.program.terminate()

    async def heard_the_first() -> bool:
        return (await it.http.get("/readyz")).text == "shutting down\n"

    await until(heard_the_first)
    assert it.pair.router.program.code is None
    it.pair.router.program.terminate()
    end = (await asyncio.wait_for(reader.read(), 10)).rpartition(b"data: ")[2]
    assert json.loads(end.split(b"\n")[0])["error"]["code"] == "shutting_down"
    writer.close()
    assert await it.pair.router.program.wait() == 0
    await until(lambda: it.noted("endless", "gone"))


async def test_f39_engines_see_the_requests_of_a_killed_router_close_within_a_second(
    it: Yard,
) -> None:
    clients = [await posted(it.pair.router.url, chat("endless")) for _ in range(4)]
    for reader, _ in clients:
        await asyncio.wait_for(reader.readuntil(b"tok1"), 10)
    queued = [asyncio.ensure_future(got(it.http, chat("endless"), "events")) for _ in range(5)]
    await waiting(it, "endless", 5)
    killed = time.monotonic()
    it.pair.router.program.kill()
    for reader, writer in clients:
        with suppress(ConnectionError):
            assert b"[DONE]" not in await asyncio.wait_for(reader.read(), 10)
        writer.close()
    for one in queued:
        with suppress(httpx.TransportError):
            assert not (await one).whole
    await until(lambda: len(it.noted("endless", "gone")) == 4)
    assert all(left["at"] - killed < 1 for left in it.noted("endless", "gone"))
    await it.idle("endless")
    now = await it.of("endless")
    assert (now["phase"], now["error"]) == ("ready", None)
    assert len(it.noted("endless", "request")) == 4
