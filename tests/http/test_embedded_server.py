"""The embedded engine as its sidecar meets it: a real process on a real, tiny model."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.harness import ROOT, Program, client, frames, free_port, until

MAKE = ROOT / "examples" / "demo" / "make_models.py"
REPORT = "cmd_child_to_router:state:"
KEY = "the-key-of-this-launch"
SENTENCE = "My name is tiny and I was made for tests, which need nothing more than these words."
CONTEXT, SLOTS = 4096, 4
STOP_SECONDS = 2.0  # measured: 50 ms at most

# As its sidecar does: stdin is a FIFO that the engine itself holds open, so it never ends.
START = 'mkfifo "$0.stdin" && exec "$@" <>"$0.stdin" 2>"$0.stderr"'


def made(name: str, folder: Path) -> Iterator[Path]:
    subprocess.run([sys.executable, MAKE, name, "--folder", folder], check=True, timeout=30)
    path = folder / f"{name}.gguf"
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from made("tiny", tmp_path_factory.mktemp("models"))


@pytest.fixture
def slow_to_load(tmp_path: Path) -> Iterator[Path]:
    yield from made("demo-medium", tmp_path)


@pytest.fixture
def half(tmp_path: Path, tiny: Path) -> Path:
    path = tmp_path / "half.gguf"
    path.write_bytes(tiny.read_bytes()[: tiny.stat().st_size // 2])
    return path


def engine(tmp: Path, model: Path, port: int, key: str = "") -> Program:
    options = {"model": model, "port": port, "context": CONTEXT, "slots": SLOTS, "alias": "t/tiny"}
    argv = [sys.executable, "-m", "sidecar.engines.embedded_server", "--threads=1"]
    argv += [f"--{name}={value}" for name, value in options.items()]
    environment = {"SWAPYARD_ENGINE_KEY": key}
    return Program(["sh", "-c", START, str(tmp / "engine"), *argv], tmp, env=environment)


def last_words(tmp: Path) -> str:
    return (tmp / "engine.stderr").read_text().splitlines()[-1]


def reports(program: Program) -> list[dict[str, Any]]:
    lines = [line for line in program.log().splitlines(keepends=True) if line.endswith("\n")]
    return [json.loads(line.removeprefix(REPORT)) for line in lines if line.startswith(REPORT)]


def states(program: Program) -> list[str]:
    return [report["state"] for report in reports(program)]


async def ready(program: Program) -> None:
    def told() -> bool:
        """ "ready" on stdout"""
        assert program.code is None, f"it ended with {program.code}"
        return "ready" in states(program)

    await until(told)


@asynccontextmanager
async def serving(
    tmp: Path, model: Path, key: str = ""
) -> AsyncIterator[tuple[Program, httpx.AsyncClient]]:
    port = free_port()
    async with engine(tmp, model, port, key) as program, client(f"http://127.0.0.1:{port}") as http:
        await ready(program)
        yield program, http


def question(text: str = "Who are you?", **extra: object) -> dict[str, object]:
    return {"model": "t/tiny", "messages": [{"role": "user", "content": text}], **extra}


async def test_its_load_is_told_on_stdout_until_it_is_ready(tmp_path: Path, tiny: Path) -> None:
    async with serving(tmp_path, tiny) as (program, _):
        *loading, last = reports(program)
    assert last["state"] == "ready"
    assert last["payload"]["meta"]["n_ctx"] == CONTEXT
    assert {report["state"] for report in loading} == {"loading"}
    shares = [report["payload"]["value"] for report in loading]
    assert shares == sorted(shares)
    assert all(0.0 <= share <= 1.0 for share in shares)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_it_answers_with_its_sentence(tmp_path: Path, tiny: Path, temperature: float) -> None:
    async with serving(tmp_path, tiny) as (_, http):
        asked = question(temperature=temperature)
        answer = (await http.post("/v1/chat/completions", json=asked)).json()
    assert answer["choices"][0]["message"]["content"] == SENTENCE
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["model"] == "t/tiny"


async def test_it_streams_its_sentence_word_by_word(tmp_path: Path, tiny: Path) -> None:
    async with serving(tmp_path, tiny) as (_, http):
        asked = question(stream=True)
        async with http.stream("POST", "/v1/chat/completions", json=asked) as answer:
            *chunks, done = [frame.data async for frame in frames(answer)]
    deltas = [json.loads(chunk)["choices"][0]["delta"] for chunk in chunks]
    words = [delta["content"] for delta in deltas if delta.get("content")]
    assert "".join(words) == SENTENCE
    assert len(words) == len(SENTENCE.split())
    assert done == "[DONE]"


async def test_with_a_key_strangers_learn_only_that_it_lives(tmp_path: Path, tiny: Path) -> None:
    async with serving(tmp_path, tiny, KEY) as (_, http):
        stranger = await http.post("/v1/chat/completions", json=question())
        http.headers["Authorization"] = f"Bearer {KEY}"
        friend = await http.post("/v1/chat/completions", json=question())
        del http.headers["Authorization"]
        health = await http.get("/health")
        curious = [
            (await http.get(path)).status_code for path in ("/slots", "/props", "/v1/models")
        ]
    assert (stranger.status_code, friend.status_code, health.status_code) == (401, 200, 200)
    assert curious == [401, 401, 401]


async def test_one_request_may_use_the_whole_context(tmp_path: Path, tiny: Path) -> None:
    """Each byte of this prompt is a token."""
    async with serving(tmp_path, tiny) as (_, http):
        slots = (await http.get("/slots")).json()
        fits = await http.post("/v1/chat/completions", json=question("x" * (CONTEXT - 100)))
        exceeds = await http.post("/v1/chat/completions", json=question("x" * CONTEXT))
    assert [slot["n_ctx"] for slot in slots] == [CONTEXT] * SLOTS
    assert fits.json()["choices"][0]["message"]["content"] == SENTENCE
    assert exceeds.status_code == 400


async def test_it_listens_on_loopback_only(tmp_path: Path, tiny: Path) -> None:
    async with serving(tmp_path, tiny) as (program, _):
        listening = [
            connection.laddr.ip
            for connection in psutil.Process(program.pid).net_connections()
            if connection.status == psutil.CONN_LISTEN
        ]
    assert listening == ["127.0.0.1"]


async def test_it_ends_on_sigterm_when_ready(tmp_path: Path, tiny: Path) -> None:
    async with serving(tmp_path, tiny) as (program, _):
        program.terminate()
        assert await program.wait(STOP_SECONDS) == -signal.SIGTERM


async def test_it_ends_on_sigterm_while_it_loads(tmp_path: Path, slow_to_load: Path) -> None:
    async with engine(tmp_path, slow_to_load, free_port()) as program:
        await until(lambda: "loading" in states(program))
        program.terminate()
        assert await program.wait(STOP_SECONDS) == -signal.SIGTERM
        assert "ready" not in states(program)


async def test_a_missing_file_is_named_in_its_last_words(tmp_path: Path) -> None:
    missing = tmp_path / "missing.gguf"
    async with engine(tmp_path, missing, free_port()) as program:
        assert await program.wait() == 1
    expected = f"embedded_server: cannot read {missing}: No such file or directory"
    assert last_words(tmp_path) == expected


async def test_half_a_file_is_refused_by_name(tmp_path: Path, half: Path) -> None:
    async with engine(tmp_path, half, free_port()) as program:
        assert await program.wait() == 1
    assert last_words(tmp_path).startswith(f"embedded_server: llama.cpp cannot load {half}")


async def test_a_taken_port_is_named_in_its_last_words(tmp_path: Path, tiny: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        async with engine(tmp_path, tiny, port) as program:
            assert await program.wait() == 1
    expected = (
        f"embedded_server: cannot listen on 127.0.0.1:{port}: {os.strerror(errno.EADDRINUSE)}"
    )
    assert last_words(tmp_path) == expected
