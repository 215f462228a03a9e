"""The engine `llama.cpp` with the real llama-server, which is on the PATH of whoever built one."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from tests.harness import ROOT, client, engines_of, frames, until
from tests.http.boxes import CHAT, Box, Json, box

LLAMA_SERVER = shutil.which("llama-server")
MAKE = ROOT / "examples" / "demo" / "make_models.py"
SLOW_READ = ROOT / "tests" / "fakes" / "slowread.c"
SENTENCE = "My name is tiny and I was made for tests, which need nothing more than these words."

pytestmark = pytest.mark.skipif(
    LLAMA_SERVER is None,
    reason="needs llama-server on the PATH: CONTRIBUTING.md says how to build one",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama-server")
    names = ["tiny", "demo-medium"]
    subprocess.run([sys.executable, MAKE, *names, "--folder", folder], check=True, timeout=60)
    whole = (folder / "tiny.gguf").read_bytes()
    (folder / "half.gguf").write_bytes(whole[: len(whole) // 2])
    (folder / "text.gguf").write_text("this is no model")
    return folder


@pytest.fixture(scope="module")
def slow_read(folder: Path) -> str:
    library = folder / "slowread.so"
    flags = ("-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
    subprocess.run(["gcc", *flags, "-o", library, SLOW_READ], check=True)
    return str(library)


@pytest.fixture(scope="module")
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def as_script(folder: Path, name: str, script: str) -> dict[str, str]:
    """An environment in which llama-server is that script."""
    program = folder / name / "llama-server"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}


@pytest.fixture(scope="module")
async def it(folder: Path, slow_read: str, taken: int) -> AsyncIterator[Box]:
    def model(name: str, *args: str, **settings: object) -> Json:
        path = str(folder / f"{name}.gguf")
        args = ("--threads", "1", "--threads-http", "4", *args)
        return {"path": path, "args": args, "context_length": 4096, "vram": "1MiB", **settings}

    codes = f'"{LLAMA_SERVER}" "$@"; echo $? >> "{folder}/codes.txt"'
    # In KiB of addresses: enough for the program, and not for a KV cache of 976 MiB beside it.
    little = f'ulimit -v 1000000; exec "{LLAMA_SERVER}" "$@"'
    models = {
        "org/tiny": model("tiny", slots=3),
        "tiny": model("tiny", engine="llama.cpp", stop_timeout="1h"),
        "recorded": model("tiny", env=as_script(folder, "codes", codes), stop_timeout="1h"),
        "endless": model("demo-medium", drain_timeout="200ms", stop_timeout="1h"),
        "slow": model("demo-medium", env={"LD_PRELOAD": slow_read}, stop_timeout="1h"),
        "half": model("half"),
        "text": model("text"),
        "bad-flag": model("tiny", "--frobnicate"),
        "bad-value": model("tiny", "--load-mode", "no-such-mode"),
        "port-taken": model("tiny", "--port", str(taken)),
        "file-gone": model("tiny", "--model", str(folder / "gone.gguf")),
        "too-large": model(
            "tiny", env=as_script(folder, "little", little), context_length=4 * 10**6
        ),
    }
    async with box(folder, models) as it:
        yield it


def engine(it: Box) -> psutil.Process:
    """The one that runs; where a script started it, not that."""
    *_, process = engines_of(it.server.program.pid)
    return process


def address(process: psutil.Process) -> str:
    [listening] = [c.laddr for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
    return f"http://{listening.ip}:{listening.port}"


async def logs(it: Box, name: str) -> str:
    return (await it.http.get(f"/models/{name}/logs")).text


async def begin(it: Box, name: str, said: str) -> None:
    """A load, up to the moment when its engine has said that."""
    await it.http.post(f"/models/{name}/load")

    async def heard() -> bool:
        return said in await logs(it, name)

    await until(heard)


def question(text: str = "Who are you?", **extra: object) -> Json:
    return {"model": "x", "messages": [{"role": "user", "content": text}], **extra}


# It serves.


async def test_a_model_that_names_no_engine_runs_on_it_and_answers(it: Box) -> None:
    facts = {m["id"]: m for m in (await it.http.get("/models")).json()["models"]}
    assert facts["org/tiny"]["engine"] == "llama.cpp"
    await it.load("org/tiny")
    answer = (await it.http.post(f"/engines/org/tiny/{CHAT}", json=question())).json()
    assert answer["choices"][0]["message"]["content"] == SENTENCE
    assert answer["model"] == "org/tiny"
    await it.unload("org/tiny")


async def test_its_answer_streams_word_by_word(it: Box) -> None:
    await it.load("tiny")
    asked = question(stream=True)
    async with it.http.stream("POST", f"/engines/tiny/{CHAT}", json=asked) as response:
        *chunks, done = [frame.data async for frame in frames(response)]
    deltas = [json.loads(chunk)["choices"][0]["delta"] for chunk in chunks]
    words = [delta["content"] for delta in deltas if delta.get("content")]
    assert ("".join(words), len(words), done) == (SENTENCE, len(SENTENCE.split()), "[DONE]")
    await it.unload("tiny")


async def test_strangers_without_its_key_are_turned_away_and_none_of_them_is_far(it: Box) -> None:
    await it.load("org/tiny")
    process = engine(it)
    async with client(address(process)) as http:
        seen = [(await http.get(path)).status_code for path in ("/v1/models", "/props", "/slots")]
        asked = await http.post("/v1/chat/completions", json=question())
    assert (seen, asked.status_code) == ([401, 401, 401], 401)
    assert address(process).startswith("http://127.0.0.1:")
    assert process.environ()["LLAMA_API_KEY"] not in " ".join(process.cmdline())
    await it.unload("org/tiny")


async def test_it_serves_no_page_and_each_slot_may_use_the_whole_context(it: Box) -> None:
    await it.load("org/tiny")
    process = engine(it)
    key = {"authorization": f"Bearer {process.environ()['LLAMA_API_KEY']}"}
    async with client(address(process)) as http:
        slots = (await http.get("/slots", headers=key)).json()
        assert (await http.get("/", headers=key)).status_code == 404
    assert [slot["n_ctx"] for slot in slots] == [4096] * 3
    await it.unload("org/tiny")


# Its load.


async def test_progress_is_what_it_reports_of_its_load_never_backwards_and_below_one(
    it: Box,
) -> None:
    seen = await it.progress_of_load("slow")
    assert seen == sorted(seen)
    assert len(set(seen)) > 3
    assert 0 < seen[0] < max(seen) < 1
    await it.unload("slow")


@pytest.mark.parametrize(
    ("name", "cause", "said"),
    [
        ("half", "crashed", "corrupted or incomplete"),
        ("text", "crashed", "invalid magic characters"),
        ("bad-flag", "bad_flag", "error: invalid argument: --frobnicate"),
        ("bad-value", "bad_flag", 'error while handling argument "--load-mode": invalid value'),
        ("port-taken", "port_in_use", "couldn't bind HTTP server socket"),
        ("file-gone", "file_missing", "No such file or directory"),
        ("too-large", "vram_oom", "insufficient memory"),
    ],
)
async def test_a_load_that_fails_says_why(it: Box, name: str, cause: str, said: str) -> None:
    async def told() -> Json | None:
        """a load that failed with words: it may end before its last lines are written"""
        error = await it.fail(name)
        assert error["message"].startswith("exited with code 1")
        return error if ": " in error["message"] else None

    error = await until(told)
    assert (error["code"], error["cause"]) == ("load_failed", cause)
    assert said in error["message"]


async def test_one_that_is_killed_while_it_loads_is_a_failed_load(it: Box) -> None:
    await begin(it, "slow", "loading model")
    engine(it).kill()
    error = (await it.until("slow", "idle"))["error"]
    assert (error["code"], error["cause"]) == ("load_failed", "crashed")
    assert error["message"].startswith("ended by SIGKILL")


def exit_codes(it: Box) -> list[int]:
    codes = it.folder / "codes.txt"
    return [int(code) for code in codes.read_text().split()] if codes.exists() else []


# Its end. With a stop timeout of an hour, nothing here is ended by force.


async def test_once_ready_it_ends_by_its_line(it: Box) -> None:
    """The signal would end the script that notes the exit code."""
    await it.load("recorded")
    await it.unload("recorded")
    assert exit_codes(it) == [0]


async def test_while_it_loads_it_ends_by_the_signal(it: Box) -> None:
    await begin(it, "slow", "loading model")
    await it.unload("slow")
    assert "model loaded" not in await logs(it, "slow")
    assert (await it.of("slow"))["error"] is None


async def test_it_ends_whenever_it_is_told_to_go_as_it_becomes_ready(it: Box) -> None:
    for _ in range(20):
        await begin(it, "tiny", "loading model")
        await it.unload("tiny")


async def test_a_frozen_one_ends_by_its_line(it: Box) -> None:
    before = exit_codes(it)
    await it.load("recorded")
    process = engine(it)
    process.suspend()
    await until(lambda: process.status() == psutil.STATUS_STOPPED)
    await it.unload("recorded")
    assert exit_codes(it) == [*before, 0]


async def test_an_answer_that_never_ends_does_not_keep_it(it: Box) -> None:
    await it.load("endless")
    asked = question(stream=True, ignore_eos=True, max_tokens=-1)
    async with it.http.stream("POST", f"/engines/endless/{CHAT}", json=asked) as response:
        await anext(frames(response))
        await it.unload("endless")


async def test_one_that_is_killed_says_so(it: Box) -> None:
    await it.load("tiny")
    engine(it).send_signal(signal.SIGKILL)
    error = (await it.until("tiny", "idle"))["error"]
    assert (error["code"], error["message"]) == ("engine_died", "ended by SIGKILL")
