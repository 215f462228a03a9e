"""F10 and F11: strangers on the ports of engines. They hear nothing and are not heard."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from sidecar.port import answers
from sidecar.process import Process
from sidecar.state import MARK as LAUNCH
from tests.faults.doors import Caller, call
from tests.faults.streams import frozen
from tests.harness import MARK, MARK_VALUE, ROOT, Program, free_port, until
from tests.http.boxes import Box, box, fake

WAITS = 'while [ ! -e "$GO" ]; do sleep 0.01; done; exec "$@"'
AT_A_TIME = 30  # requests


def stranger(tmp: Path, port: int) -> Program:
    return Program([sys.executable, str(ROOT / "tests" / "fakes" / "stranger.py"), str(port)], tmp)


async def here(it: Program) -> None:
    await until(lambda: "here" in it.log())


def heard(it: Program) -> list[str]:
    return [line for line in it.log().splitlines() if line != "here"]


def port_of(it: Box, name: str) -> int:
    return int(it.journal(name, "started")[-1]["port"])


# F10: the port is taken before the engine has it.


async def test_f10_a_stranger_on_the_port_is_never_taken_for_ours(tmp_path: Path) -> None:
    """It is not even asked: the request would carry the key of our engine."""
    models = {"a": fake("--no-listen", stall_timeout="500ms")}
    async with box(tmp_path, models) as it:
        await it.http.post("/models/a/load")
        await until(lambda: it.journal("a", "started"))
        async with stranger(tmp_path, port_of(it, "a")) as other:
            await here(other)
            now = await it.until("a", "idle")
        assert now["error"]["cause"] == "stalled"
        assert not heard(other)


async def test_f10_a_load_whose_port_was_taken_fails_and_the_next_takes_another(
    tmp_path: Path,
) -> None:
    model = fake(env={"GO": str(tmp_path / "go")})
    model["command"] = ["sh", "-c", WAITS, "wrapper", *model["command"]]
    async with box(tmp_path, {"a": model}) as it:
        await it.http.post("/models/a/load")
        port = await until(lambda: waiting_for(it))
        async with stranger(tmp_path, port) as other:
            await here(other)
            (tmp_path / "go").touch()
            now = await it.until("a", "idle")
            assert now["error"]["cause"] == "port_in_use"
            await it.load("a")
            assert (await it.ask("a")).status_code == 200
            assert port_of(it, "a") != port
            assert not heard(other)
        await it.unload("a")


def waiting_for(it: Box) -> int | None:
    """The port that the engine is told, before it is there."""
    for child in psutil.Process(it.server.program.pid).children():
        words = child.cmdline()
        if "--port" in words:
            return int(words[words.index("--port") + 1])
    return None


# F11: the engine dies, and a stranger has its port before anybody has heard of it.


@pytest.mark.parametrize("wrapped", [False, True])
async def test_f11_who_takes_the_port_of_a_dying_engine_hears_and_says_nothing(
    tmp_path: Path, wrapped: bool
) -> None:
    model = fake("--first-token-seconds", "0.3", "--tokens", "1", slots=AT_A_TIME)
    if wrapped:
        model["command"] = ["sh", "-c", '"$@"; sleep 1', "wrapper", *model["command"]]
    async with box(tmp_path, {"a": model}) as it:
        await it.load("a")
        await at_once(it)  # the connections on which the next are sent
        async with stranger(tmp_path, port_of(it, "a")) as other:
            asking = asyncio.ensure_future(at_once(it))
            await until(lambda: len(it.journal("a", "request")) == 2 * AT_A_TIME)
            async with AsyncExitStack() as stack:
                with frozen(it.server.program.pid):  # all that comes now it hears at once
                    late = [await stack.enter_async_context(sent(it)) for _ in range(AT_A_TIME)]
                    os.kill(it.journal("a", "started")[0]["pid"], signal.SIGKILL)
                    await here(other)
                told = [await asyncio.wait_for(one.answer(), 10) for one in late]
            answers = await asking
            assert not heard(other)
        assert {status for status, _ in told} <= {409, 502}
        assert not any(b"stranger" in body for _, body in told)
        assert {answer.status_code for answer in answers} <= {409, 502}
        assert not any("stranger" in answer.text for answer in answers)


@asynccontextmanager
async def sent(it: Box) -> AsyncIterator[Caller]:
    """A request on its way to the engine, on a connection of its own."""
    async with call(it.server.url) as caller:
        caller.say(b"POST /engines/a/v1/chat/completions HTTP/1.1\r\nHost: a\r\n")
        caller.say(b"Content-Length: 2\r\n\r\n{}")
        yield caller


async def at_once(it: Box) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=AT_A_TIME)
    async with httpx.AsyncClient(
        base_url=it.server.url, limits=limits, trust_env=False, verify=False
    ) as http:
        body: Any = {"messages": []}
        asked = (http.post("/engines/a/v1/chat/completions", json=body) for _ in range(AT_A_TIME))
        return list(await asyncio.gather(*asked))


async def test_f11_an_engine_lives_as_long_as_who_listens_for_it(tmp_path: Path) -> None:
    """And not as long as the wrapper that has started it."""
    port, mark = free_port(), "a mark"
    engine = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    env = {"PATH": os.environ["PATH"], MARK: MARK_VALUE, LAUNCH: mark}
    argv = ["sh", "-c", '"$@"; exec sleep 60', "wrapper", *engine]
    process = Process.spawn(argv, env, tmp_path / "log", None, mark)
    try:
        await until(lambda: process.listens(port))
        assert process.lives
        [listener] = psutil.Process(process.pid).children()
        listener.kill()
        await until(lambda: not process.lives)
        assert psutil.pid_exists(process.pid)
    finally:
        process.signal(force=True)
        await process.exited
    assert not process.lives


# An engine behind a wrapper, which outlives its server.


async def test_f11_a_server_that_its_wrapper_starts_anew_is_found_again(tmp_path: Path) -> None:
    model = fake()
    model["command"] = ["sh", "-c", 'while true; do "$@"; done', "wrapper", *model["command"]]
    async with box(tmp_path, {"a": model}) as it:
        await it.load("a")
        assert (await it.ask("a")).status_code == 200
        port = port_of(it, "a")
        os.kill(it.journal("a", "started")[0]["pid"], signal.SIGKILL)
        await until(lambda: len(it.journal("a", "started")) == 2 and answers(port))
        for _ in range(2):
            assert (await it.ask("a")).status_code == 200
        assert (await it.of("a"))["phase"] == "ready"
        assert port_of(it, "a") == port


async def test_f12_an_engine_that_takes_no_connections_though_it_lives_is_ended(
    tmp_path: Path,
) -> None:
    model = fake()
    model["command"] = ["sh", "-c", '"$@"; exec sleep 60', "wrapper", *model["command"]]
    async with box(tmp_path, {"a": model}) as it:
        await it.load("a")
        os.kill(it.journal("a", "started")[0]["pid"], signal.SIGKILL)
        answer = await it.ask("a")
        assert (answer.status_code, answer.headers["x-swapyard-refused"]) == (409, "not_ready")
        error = (await it.until("a", "idle"))["error"]
        assert (error["code"], error["cause"]) == ("engine_stalled", "stalled")
        assert error["message"] == "takes no connections any more"
        await it.load("a")
        assert (await it.ask("a")).status_code == 200
