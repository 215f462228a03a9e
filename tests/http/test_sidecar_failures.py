"""How a sidecar's engines fail and end: crashes, loads that come to nothing, stops that hang."""

import json
import os
import signal
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.harness import Frame, frames, until
from tests.http.boxes import Box, Json, box, fake, model

ENDLESS = ("--tokens", "100000", "--tokens-per-second", "50")
MODELS = {
    "plain": fake("--tokens", "3"),
    "endless": fake(*ENDLESS, drain_timeout="200ms"),
    "silent": fake("--first-token-seconds", "60", silence_timeout="200ms"),
    "dies-at-2": fake("--crash-at", "token:2", "--tokens", "4"),
    "dies-when-ready": fake("--crash-at", "ready"),
    "deaf": fake("--deaf", stop_timeout="300ms"),
    "stalls": fake("--stall", stall_timeout="300ms", stop_timeout="300ms"),
    "too-slow": fake("--load-seconds", "60", start_timeout="300ms"),
    "no-program": model(["/no/such/program"]),
    "no-file": fake(path="/no/such/file.gguf"),
    "bad-flag": fake("--no-such-switch"),
    "port-taken": fake("--fail-with", "bind: Address already in use"),
    "crashes": fake("--crash-at", "load"),
    "stop-command": fake(stop_command=["cp", "{model}.journal", "{model}.journal-then"]),
    "stop-command-missing": fake(stop_command=["/no/such/program"]),
    "stop-command-hangs": fake(stop_command=["sleep", "60"], stop_timeout="300ms"),
}


@pytest.fixture(scope="module")
async def it(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Box]:
    async with box(tmp_path_factory.mktemp("sidecar"), MODELS) as it:
        yield it


async def error_in(response: httpx.Response) -> tuple[list[Frame], Json]:
    """The frames before the error with which a stream ends."""
    *before, last = [frame async for frame in frames(response)]
    assert "[DONE]" not in [frame.data for frame in before]
    return before, json.loads(last.data)["error"]


# Engines that fail while they serve.


async def test_a_crash_in_mid_stream_is_told_in_the_stream(it: Box) -> None:
    await it.load("dies-at-2")
    response = await it.http.send(it.chat("dies-at-2"), stream=True)
    before, error = await error_in(response)
    assert len(before) == 3
    assert error["code"] == "engine_died"
    now = await it.until("dies-at-2", "idle")
    assert now["error"]["code"] == "engine_died"
    assert now["error"]["cause"] == "crashed"
    await until(lambda: it.serves_nobody("dies-at-2"))


async def test_an_engine_that_ends_when_ready_is_idle_and_says_why(it: Box) -> None:
    await it.load("plain")
    os.kill(it.journal("plain", "started")[-1]["pid"], signal.SIGKILL)
    error = (await it.until("plain", "idle"))["error"]
    assert (error["code"], error["cause"]) == ("engine_died", "crashed")
    assert error["message"] == "ended by SIGKILL"
    assert error["log_tail"][-1] == "fake engine: ready"


async def test_an_engine_that_ends_as_it_becomes_ready_is_idle_and_says_why(it: Box) -> None:
    """Its last answer and its end cross: either may be seen first."""
    error = await it.fail("dies-when-ready")
    assert error["cause"] == "crashed"
    assert error["log_tail"][-1] == "fake engine: crashed right after it was ready"


async def test_an_engine_that_is_silent_for_too_long_has_stalled(it: Box) -> None:
    await it.load("silent")
    response = await it.ask("silent")
    assert (response.status_code, response.json()["error"]["code"]) == (504, "engine_stalled")
    idle = await it.until("silent", "idle")
    assert (idle["error"]["code"], idle["error"]["cause"]) == ("engine_stalled", "stalled")
    assert it.journal("silent", "sigterm")


# Loads that fail.


@pytest.mark.parametrize(
    ("name", "cause", "said"),
    [
        ("no-program", "file_missing", "/no/such/program"),
        ("no-file", "file_missing", "/no/such/file.gguf"),
        ("bad-flag", "bad_flag", "--no-such-switch"),
        ("port-taken", "port_in_use", "Address already in use"),
        ("crashes", "crashed", "exited with code 1"),
        ("stalls", "stalled", "no sign of progress"),
        ("too-slow", "timeout", "not ready within"),
    ],
)
async def test_a_load_that_fails_says_why(it: Box, name: str, cause: str, said: str) -> None:
    error = await it.fail(name)
    assert (error["code"], error["cause"]) == ("load_failed", cause)
    assert said in error["message"]
    assert abs(error["at"] - time.time()) < 60


# Stops.


async def test_a_deaf_engine_is_killed_after_its_stop_timeout(it: Box) -> None:
    await it.load("deaf")
    began = time.monotonic()
    await it.unload("deaf")
    assert 0.3 <= time.monotonic() - began < 2
    assert len(it.journal("deaf", "sigterm")) == 1
    assert (await it.of("deaf"))["error"] is None


async def test_an_answer_that_never_ends_does_not_outlast_the_drain_timeout(it: Box) -> None:
    await it.load("endless")
    response = await it.http.send(it.chat("endless"), stream=True)
    await it.http.post("/models/endless/unload")
    _, error = await error_in(response)
    assert error["code"] == "engine_died"
    await it.until("endless", "idle")
    await until(lambda: it.serves_nobody("endless"))


async def test_a_stop_command_runs_before_the_signal(it: Box) -> None:
    await it.load("stop-command")
    await it.unload("stop-command")
    assert it.journal("stop-command", "sigterm")
    then = (it.folder / "stop-command.journal-then").read_text()
    assert '"ready"' in then
    assert "sigterm" not in then


async def test_a_stop_command_that_is_not_there_is_no_reason_to_stay(it: Box) -> None:
    await it.load("stop-command-missing")
    await it.unload("stop-command-missing")
    assert it.journal("stop-command-missing", "sigterm")


async def test_a_stop_command_that_hangs_is_ended_with_its_engine(it: Box) -> None:
    await it.load("stop-command-hangs")
    await it.unload("stop-command-hangs")
    assert not it.journal("stop-command-hangs", "sigterm")
