"""What a sidecar does with an engine that reports its load and ends by a line: the fake engine
program where `llama-server` is expected. `test_llama_server.py` has the real one.
"""

import contextlib
import json
import os
import select
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tests.harness import until
from tests.http.boxes import Box, Json, box, llama_server, reporting

SLOW = ("--load-seconds", "60")


@pytest.fixture(scope="module")
async def it(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Box]:
    folder = tmp_path_factory.mktemp("sidecar")

    def model(name: str, *switches: str, **settings: object) -> dict[str, Json]:
        return {name: reporting(folder, name, *switches, **settings)}

    models = {
        **model("plain"),
        **model("loads", "--load-seconds", "0.8"),
        **model("slow", *SLOW),
        **model("catches-the-signal", "--load-seconds", "0.4", "--deaf"),
        **model("loses-the-line", "--loses-line"),
        **model("deaf", "--loses-line", "--deaf", stop_timeout="300ms"),
        **model("never-reads", stop_timeout="300ms"),
        **model("crashes", "--crash-at", "load"),
        "unsaid": {"path": __file__, "env": {"PATH": llama_server(folder)}},
        "unsaid-without": {"path": __file__, "env": {"PATH": "/nowhere"}},
        "without": {"engine": "llama.cpp", "path": __file__, "env": {"PATH": "/nowhere"}},
    }
    async with box(folder, models) as it:
        yield it


def events(it: Box, name: str) -> list[str]:
    """What happened to its engine since it was ready, or since it was started, in order."""
    lines = (it.folder / f"{name}.journal").read_text().splitlines()
    said = [json.loads(line)["event"] for line in lines]
    return said[said.index("ready" if "ready" in said else "started") + 1 :]


def pid(it: Box, name: str) -> int:
    return int(it.journal(name, "started")[-1]["pid"])


# Its load.


async def test_the_load_is_told_as_the_engine_reports_it(it: Box) -> None:
    seen = await it.progress_of_load("loads")
    assert seen == sorted(seen)
    assert len(set(seen)) > 2
    assert 0 < max(seen) < 1
    await it.unload("loads")


async def test_an_engine_that_said_that_it_is_ready_serves(it: Box) -> None:
    await it.load("plain")
    response = await it.ask("plain")
    assert response.json()["choices"][0]["message"]["content"]
    await it.unload("plain")


async def test_a_load_that_crashes_is_told(it: Box) -> None:
    error = await it.fail("crashes")
    assert (error["code"], error["cause"]) == ("load_failed", "crashed")
    assert error["message"].endswith("fake engine: crashed half-way through the load")


# Its end.


async def test_a_ready_engine_ends_by_its_line(it: Box) -> None:
    await it.load("plain")
    await it.unload("plain")
    assert events(it, "plain")[-2:] == ["line", "exit"]
    assert it.journal("plain", "exit")[-1]["code"] == 0
    assert not it.journal("plain", "sigterm")


async def test_an_engine_that_loads_ends_by_the_signal(it: Box) -> None:
    await it.http.post("/models/slow/load")
    await until(lambda: it.journal("slow", "started"))
    await it.unload("slow")
    assert events(it, "slow") == ["sigterm", "exit"]


async def test_an_engine_that_catches_the_signal_and_becomes_ready_ends_by_its_line(
    it: Box,
) -> None:
    name = "catches-the-signal"
    await it.http.post(f"/models/{name}/load")
    await until(lambda: it.journal(name, "started"))
    await it.unload(name)
    assert it.journal(name, "sigterm")
    assert events(it, name) == ["line", "exit"]


async def test_an_engine_that_lost_its_line_ends_by_the_signal(it: Box) -> None:
    await it.load("loses-the-line")
    await it.unload("loses-the-line")
    assert events(it, "loses-the-line") == ["line", "sigterm", "exit"]


async def test_an_engine_that_hears_nothing_is_killed_after_its_stop_timeout(it: Box) -> None:
    await it.load("deaf")
    await it.unload("deaf")
    assert events(it, "deaf") == ["line"]


async def test_a_frozen_engine_is_woken_to_hear_its_line(it: Box) -> None:
    await it.load("plain")
    await freeze(it, "plain")
    await it.unload("plain")
    assert events(it, "plain")[-2:] == ["line", "exit"]


async def test_an_engine_that_never_reads_holds_up_nobody(it: Box) -> None:
    await it.load("never-reads")
    await freeze(it, "never-reads")
    [fifo] = (it.folder / "state" / "fifos").iterdir()
    fill(fifo)
    await it.http.post("/models/never-reads/unload")
    assert (await it.http.get("/healthz")).status_code == 200
    await it.until("never-reads", "idle")
    assert "line" not in events(it, "never-reads")


async def test_a_killed_engine_is_gone_with_its_fifo(it: Box) -> None:
    await it.load("plain")
    os.kill(pid(it, "plain"), signal.SIGKILL)
    now = await it.until("plain", "idle")
    assert (now["error"]["code"], now["error"]["message"]) == ("engine_died", "ended by SIGKILL")
    assert not list((it.folder / "state" / "fifos").iterdir())


async def freeze(it: Box, name: str) -> None:
    process = psutil.Process(pid(it, name))
    process.suspend()
    await until(lambda: process.status() == psutil.STATUS_STOPPED)


def fill(fifo: Path) -> None:
    """Nobody who writes to it without waiting gets anything in."""
    with contextlib.closing(os.fdopen(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK), "wb", 0)) as to:
        while to.write(b"\n" * select.PIPE_BUF):
            pass


# Which GPU.


def visible(it: Box, name: str) -> str:
    return psutil.Process(pid(it, name)).environ()["CUDA_VISIBLE_DEVICES"]


async def test_it_sees_the_gpu_that_is_booked_for_it_and_no_other(
    tmp_path: Path, fake_nvml: Path
) -> None:
    driver = tmp_path / "driver"
    driver.write_text("gpu 1024 0 1024 0 GPU-full Full\ngpu 1024 0 0 0 GPU-free Free\n")
    env = {"LD_LIBRARY_PATH": str(fake_nvml), "FAKE_NVML": str(driver)}
    models = {
        "on-a-gpu": reporting(tmp_path, "on-a-gpu", gpus="auto"),
        "on-none": reporting(tmp_path, "on-none", gpus="none"),
    }
    async with box(tmp_path, models, env) as it:

        async def seen() -> bool:
            """that a stranger fills the first GPU"""
            return any(row["strangers"] for row in (await it.status())["memory"])

        await until(seen)
        assert (await it.load("on-a-gpu"))["gpus"] == [1]
        assert visible(it, "on-a-gpu") == "GPU-free"
        assert (await it.load("on-none"))["gpus"] == []
        assert visible(it, "on-none") == ""


async def test_who_books_on_the_host_sees_no_gpu_also_where_we_see_none(it: Box) -> None:
    await it.load("plain")
    assert visible(it, "plain") == ""
    await it.unload("plain")


# Which engine.


async def test_a_model_that_names_no_engine_gets_llama_cpp_where_it_is_on_the_path(
    it: Box,
) -> None:
    models = (await it.http.get("/models")).json()["models"]
    engines = {model["id"]: model["engine"] for model in models}
    assert engines["unsaid"] == "llama.cpp"
    assert engines["unsaid-without"] == "embedded"
    assert "no llama-server on the PATH" in it.server.program.log()


async def test_the_sidecars_own_path_counts_for_models_without_one(tmp_path: Path) -> None:
    models = {"unsaid": {"path": __file__}}
    async with box(tmp_path, models, {"PATH": llama_server(tmp_path)}) as it:
        [model] = (await it.http.get("/models")).json()["models"]
    assert model["engine"] == "llama.cpp"


async def test_a_program_that_is_not_there_is_told_before_anybody_leaves(it: Box) -> None:
    async def told() -> bool:
        problems = (await it.status())["problems"]
        return "without: there is no program llama-server" in problems

    await until(told)
    error = await it.fail("without")
    assert (error["code"], error["cause"]) == ("load_failed", "file_missing")
    assert error["message"] == "there is no program llama-server"
