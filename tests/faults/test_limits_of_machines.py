"""F78 to F81: descriptors, memory, processes and time of the machine run out."""

import asyncio
import itertools
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from sidecar.events import HEARTBEAT
from tests.e2e.pair import ask, chat, pair
from tests.faults.doors import Caller, call, status_in
from tests.faults.streams import Got, Json, Yard, engine, got, yard
from tests.harness import Program, Server, client, engines_of, free_port, until

FILES = 128
LINE_MIB = 16
CLIENTS = 300
PROCESSES = 16
AS_NOBODY = ("setpriv", "--reuid", "61080", "--clear-groups")  # nobody else's processes are its
SLOW = ("--tokens", "35", "--tokens-per-second", "10")


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Yard]:
    models = [engine(tmp_path, "warm"), engine(tmp_path, "other")]
    models.append(engine(tmp_path, "slow", *SLOW))
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


# F80: processes.


@asynccontextmanager
async def sidecar_of_nobody(tmp: Path) -> AsyncIterator[Server]:
    """Root's processes are not counted. It may read what is ours all the same, and have few
    processes."""
    port, config = free_port(), tmp / "sidecar.yaml"
    models = "models: {any: {engine: command, vram: 1MiB, command: [sleep, '60', '{port}']}}"
    config.write_text(f"listen: 127.0.0.1:{port}\nmemory_limit: 1GiB\n{models}\n")
    caps = ("--inh-caps", "+dac_override", "--ambient-caps", "+dac_override")
    limit = ("prlimit", f"--nproc={PROCESSES}:{PROCESSES}")
    program_of_ours = (sys.executable, "-m", "sidecar", "--config", str(config))
    async with Program([*limit, *AS_NOBODY, *caps, *program_of_ours], tmp) as program:
        url = f"http://127.0.0.1:{port}"

        async def up() -> bool:
            assert program.code is None, program.log()
            return await status_of(url, "/healthz") == 200

        await until(up)
        yield Server(url, program, config)


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes somebody else")
async def test_f80_a_sidecar_that_may_start_no_process_says_so_and_backs_off(
    tmp_path: Path,
) -> None:
    async with sidecar_of_nobody(tmp_path) as it, client(it.url) as http:
        numbers = itertools.count(1)

        async def backs_off() -> Json | None:
            """asked for again and again, it rests"""
            wants = {"waiting": {"0": 1}, "oldest_s": 0.0, "sent": 0}
            demand = {"v": 1, "seq": next(numbers), "ttl_s": 3, "models": {"any": wants}}
            assert (await http.put("/demand/one", json=demand)).status_code == 204
            (found,) = (await http.get("/models/status")).json()["models"]
            error = dict(found["error"] or {})
            return error if error.get("retry_in_s") else None

        async with AsyncExitStack() as stack:
            for _ in range(PROCESSES):
                await stack.enter_async_context(Program([*AS_NOBODY, "sleep", "60"], tmp_path))
            error = await until(backs_off)
            assert (error["code"], error["cause"]) == ("load_failed", "crashed")
            assert "Resource temporarily unavailable" in error["message"]
            assert engines_of(it.program.pid) == []
            assert (await http.get("/healthz")).status_code == 200
        assert (await http.post("/models/any/load")).status_code == 202

        await until(lambda: engines_of(it.program.pid))
        assert (await http.post("/models/any/unload")).status_code == 202


# F81: time.


async def test_f81_a_box_that_stands_for_less_than_three_heartbeats_is_not_lost(it: Yard) -> None:
    heard = asyncio.ensure_future(ask(it.http, chat("slow")))
    await until(lambda: it.noted("slow", "request"))
    pid, stopped = it.pair.sidecar.program.pid, time.monotonic()
    os.kill(pid, signal.SIGSTOP)

    async def is_live() -> bool:
        """for two heartbeats and a half"""
        (box,) = (await it.http.get("/api/fleet")).json()["boxes"]
        assert box["live"]
        return time.monotonic() > stopped + 2.5 * HEARTBEAT

    try:
        await until(is_live)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (await heard).done
    await until(lambda: "the event loop turns again" in it.pair.sidecar.program.log())
    assert "trouble with a box" not in it.pair.router.program.log()
    assert await status_of(it.pair.sidecar.url, "/healthz") == 200
    assert len(it.noted("slow", "started")) == 1


# F79: memory.


async def test_f79_a_router_with_little_memory_sheds_before_it_dies(tmp_path: Path) -> None:
    models = engine(tmp_path, "long", "--load-seconds", "3600") + engine(tmp_path, "warm")
    limits = f"queue: {{max_bytes: {LINE_MIB}MiB}}"
    async with pair(tmp_path, models, router_yaml=limits) as both:
        assert (await ask(both.http, chat("warm"))).done
        program = both.router.program
        most = psutil.Process(program.pid).memory_info().vms + 4 * LINE_MIB * 2**20
        resource.prlimit(program.pid, resource.RLIMIT_AS, (most, most))
        body = {**chat("long"), "picture": "x" * 2**20}
        waiting = [asyncio.ensure_future(got(both.http, body)) for _ in range(2 * LINE_MIB)]

        def shed() -> set[asyncio.Task[Got]] | None:
            """all but those for whom there is room"""
            done = {one for one in waiting if one.done()}
            return done if len(done) > LINE_MIB else None

        assert {one.result().code for one in await until(shed)} == {"queue_full"}
        assert (await ask(both.http, chat("warm"))).done
        assert program.code is None
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_f79_bodies_that_are_being_sent_have_a_bound_together(tmp_path: Path) -> None:
    limits = "queue: {max_bytes: 2MiB}\nmax_body: 2MiB\n"
    async with pair(tmp_path, engine(tmp_path, "warm"), router_yaml=limits) as both:
        url = both.router.url
        lines = (b"POST /v1/chat/completions HTTP/1.1", b"Host: x", b"Connection: close")
        almost = b"\r\n".join((*lines, b"Content-Length: 1048576", b"", b" " * 1048575))
        async with call(url) as one, call(url) as two, call(url) as three:
            for caller in (one, two, three):
                caller.say(almost)
            last = [asyncio.ensure_future(caller.refused()) for caller in (one, two, three)]
            first, _ = await asyncio.wait(last, return_when=asyncio.FIRST_COMPLETED)
            assert [refused.result() for refused in first] == [(503, "queue_full")]
            one.say(b" ")
            two.say(b" ")
            three.say(b" ")
            found = sorted([status for status, _ in await asyncio.gather(*last)])
            assert found == [400, 400, 503]
        assert (await ask(both.http, chat("warm"))).done
