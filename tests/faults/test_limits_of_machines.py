"""F78 to F81: descriptors, memory, processes and time of the machine run out."""

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.e2e.pair import ask, chat
from tests.faults.doors import Caller, call, status_in
from tests.faults.streams import Yard, engine, yard
from tests.harness import Program, client, until

FILES = 128
CLIENTS = 300
HEAD = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Yard]:
    models = [engine(tmp_path, "warm"), engine(tmp_path, "other")]
    async with yard(tmp_path, "".join(models), "warm") as it:
        yield it


@asynccontextmanager
async def crowd(url: str) -> AsyncIterator[list[Caller]]:
    """So many who have come and say nothing."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(call(url)) for _ in range(CLIENTS)]


def limit_files(program: Program) -> None:
    resource.prlimit(program.pid, resource.RLIMIT_NOFILE, (FILES, FILES))


async def status_of(url: str, path: str) -> int | None:
    """None: the connection broke."""
    try:
        async with client(url, timeout=5) as http:
            return (await http.get(path)).status_code
    except httpx.TransportError:
        return None


@pytest.mark.parametrize("program", ["router", "sidecar"])
async def test_f78_when_descriptors_run_out_it_can_still_be_looked_at_and_recovers(
    it: Yard, program: str
) -> None:
    server = getattr(it.pair, program)
    limit_files(server.program)
    look = "/api/fleet" if program == "router" else "/models/status"
    async with crowd(server.url) as callers:
        excess = callers[-1]
        assert status_in(await excess.head()) == 503

        async def looked_at() -> bool:
            return [await status_of(server.url, path) for path in ("/healthz", look)] == [200, 200]

        await until(looked_at)
        said = await status_of(server.url, "/models")
        assert said == 503
    await it.well("warm")
    assert server.program.code is None


async def test_f78_a_sidecar_without_descriptors_for_clients_still_starts_engines(
    it: Yard,
) -> None:
    limit_files(it.pair.sidecar.program)
    async with crowd(it.pair.sidecar.url):
        told = asyncio.ensure_future(ask(it.http, chat("other")))
        await until(lambda: it.noted("other", "ready"))
    assert (await told).done
