"""A sidecar from its start to its end: what it refuses to start with, and how it goes."""

import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from tests.harness import Program, frames, free_port, until
from tests.http.boxes import CHAT, box, config, echo, fake

SLOW = ("--tokens", "20", "--tokens-per-second", "40")
ENDLESS = ("--tokens", "100000", "--tokens-per-second", "50")


def program(tmp: Path, text: str) -> Program:
    path = tmp / "another.yaml"
    path.write_text(text)
    return Program([sys.executable, "-m", "sidecar", "--config", str(path)], tmp)


# What it does not start with.


async def test_a_config_with_problems_tells_all_of_them_and_starts_nothing(tmp_path: Path) -> None:
    text = "listne: 127.0.0.1:8090\nmodels:\n  a: {engine: command, slots: 0}\n"
    async with program(tmp_path, text) as refused:
        assert await refused.wait() == 2
    lines = refused.log().splitlines()
    assert len(lines) == 3
    assert all(line.startswith("another.yaml:") for line in lines)
    assert not (tmp_path / "state").exists()


async def test_without_its_config_it_does_not_start(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "sidecar", "--config", str(tmp_path / "none.yaml")]
    async with Program(argv, tmp_path) as refused:
        assert await refused.wait() == 2
    assert "none.yaml" in refused.log()
    assert "Traceback" not in refused.log()


async def test_a_state_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    text = f"listen: 127.0.0.1:{free_port()}\n{config(tmp_path, {'a': echo()})}"
    async with program(tmp_path, text) as refused:
        assert await refused.wait() == 2
    assert f"state_dir: {tmp_path}/state cannot be used: " in refused.log()
    assert "Traceback" not in refused.log()


async def test_an_address_that_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = f"listen: 127.0.0.1:{port}\n{config(tmp_path, {'a': echo()})}"
        async with program(tmp_path, text) as refused:
            assert await refused.wait() == 2
    assert "address already in use" in refused.log().lower()
    assert "Traceback" not in refused.log()


# How it goes.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_answers_end_and_then_stops_engines(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with box(tmp_path, {"slow": fake(*SLOW), "idle": fake("--deaf")}) as it:
        await it.load("slow")
        pid = it.server.program.pid
        body = {"stream": True}
        async with it.http.stream("POST", f"/engines/slow/{CHAT}", json=body) as response:
            heard = frames(response)
            await anext(heard)
            os.kill(pid, number)

            async def closing() -> bool:
                return (await it.http.get("/readyz")).status_code == 503

            await until(closing)
            assert (await it.http.get("/healthz")).status_code == 200
            late = await it.ask("slow")
            assert (late.status_code, late.headers["x-swapyard-refused"]) == (409, "draining")
            assert [frame.data async for frame in heard][-1] == "[DONE]"
        assert await it.server.program.wait() == 0
        assert it.journal("slow", "sigterm")
        assert not it.journal("slow", "gone")
        assert "Traceback" not in it.server.program.log()
    assert not list((tmp_path / "state" / "fifos").iterdir())


async def test_watchers_are_told_of_the_end_and_let_go(tmp_path: Path) -> None:
    async with box(tmp_path, {"a": fake()}) as it:
        await it.load("a")
        async with it.http.stream("GET", "/models/events") as response:
            heard = frames(response)
            await anext(heard)
            it.server.program.terminate()
            last = [frame.data async for frame in heard][-1]
        assert '"phase":"idle"' in last
        assert await it.server.program.wait() == 0


async def test_shutdown_takes_no_longer_than_its_timeout(tmp_path: Path) -> None:
    models = {"endless": fake(*ENDLESS, "--deaf")}
    async with box(tmp_path, models, shutdown_timeout="300ms") as it:
        await it.load("endless")
        async with it.http.stream("POST", f"/engines/endless/{CHAT}", json={"stream": True}) as r:
            heard = frames(r)  # as long as it is held, so is the connection
            assert await anext(heard)
            began = time.monotonic()
            it.server.program.terminate()
            assert await it.server.program.wait() == 0
        assert time.monotonic() - began < 2


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    async with box(tmp_path, {"endless": fake(*ENDLESS, "--deaf")}) as it:
        await it.load("endless")
        async with it.http.stream("POST", f"/engines/endless/{CHAT}", json={"stream": True}) as r:
            heard = frames(r)  # as long as it is held, so is the connection
            assert await anext(heard)
            it.server.program.terminate()
            await it.until("endless", "switching")
            began = time.monotonic()
            it.server.program.terminate()
            assert await it.server.program.wait() == 0
        assert time.monotonic() - began < 2


async def test_a_load_under_way_is_stopped_too(tmp_path: Path) -> None:
    async with box(tmp_path, {"loads": fake("--load-seconds", "60")}) as it:
        await it.http.post("/models/loads/load")
        await until(lambda: it.journal("loads", "started"))
        it.server.program.terminate()
        assert await it.server.program.wait() == 0
    assert it.journal("loads", "sigterm")
