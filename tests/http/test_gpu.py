"""The memory of a box, read through the real NVML binding from a fake driver.

Rule: a process can load that library only once, so each test has a program of its own that reads
and reports each change; the test changes the driver's file and waits for what the program reports.
"""

import json
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from sidecar.gpu import Host, Memory, MemoryReader
from tests.harness import Program, until

GIB = 2**30
TWO_GPUS = """\
gpu 24576 512 1024 37 GPU-aaaa NVIDIA GeForce RTX 4090
gpu 81920 0 40960 -1 GPU-bbbb NVIDIA H100 80GB HBM3
"""

REPORT_CHANGES = """\
import asyncio, json, signal
from dataclasses import asdict
from sidecar.gpu import MemoryReader, SystemMemory

async def report(reader):
    last = None
    while True:
        memory = asdict(await reader.read())
        now = json.dumps({"gpus": memory["gpus"], "problem": memory["problem"]})
        if now != last:
            print(now)
        last = now
        await asyncio.sleep(0.01)

async def main():
    with MemoryReader(SystemMemory(), deadline=0.3) as reader:
        task = asyncio.create_task(report(reader))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await asyncio.wait([task])

asyncio.run(main())
"""


@dataclass(frozen=True)
class Box:
    program: Program
    driver: Path

    def set(self, text: str) -> None:
        """In one step, so that nobody reads half of it."""
        draft = self.driver.with_suffix(".draft")
        draft.write_text(text)
        draft.rename(self.driver)

    async def reports(self, *, gpus: int, problem: str | None) -> dict[str, Any]:
        """The next report with so many GPUs and a problem that says this."""

        def matching() -> dict[str, Any] | None:
            *whole, _ = self.program.log().split("\n")
            report = json.loads(whole[-1]) if whole else {"gpus": [], "problem": "no report yet"}
            said = report["problem"]
            agrees = said is None if problem is None else problem in (said or "")
            return report if agrees and len(report["gpus"]) == gpus else None

        return await until(matching)


@asynccontextmanager
async def box(tmp: Path, library: Path, driver: str) -> AsyncIterator[Box]:
    file = tmp / "driver"
    file.write_text(driver)
    env = {"LD_LIBRARY_PATH": str(library), "FAKE_NVML": str(file)}
    async with Program([sys.executable, "-c", REPORT_CHANGES], tmp, env=env) as program:
        yield Box(program, file)


async def test_figures_of_two_gpus_arrive(tmp_path: Path, fake_nvml: Path) -> None:
    async with box(tmp_path, fake_nvml, TWO_GPUS) as two:
        report = await two.reports(gpus=2, problem=None)
    assert report["gpus"] == [
        {
            "index": 0,
            "uuid": "GPU-aaaa",
            "name": "NVIDIA GeForce RTX 4090",
            "total": 24 * GIB - GIB // 2,
            "used": 1 * GIB,
            "utilisation": 37,
            "vendor": "nvidia",
            "ordinal": None,
        },
        {
            "index": 1,
            "uuid": "GPU-bbbb",
            "name": "NVIDIA H100 80GB HBM3",
            "total": 80 * GIB,
            "used": 40 * GIB,
            "utilisation": None,
            "vendor": "nvidia",
            "ordinal": None,
        },
    ]


async def test_figures_follow_the_driver(tmp_path: Path, fake_nvml: Path) -> None:
    async with box(tmp_path, fake_nvml, "gpu 24576 0 0 0 GPU-aaaa A") as one:
        await one.reports(gpus=1, problem=None)
        one.set("gpu 24576 0 6144 0 GPU-aaaa A")
        await until(lambda: f'"used": {6 * GIB}' in one.program.log())


async def test_an_old_driver_counts_its_own_memory_as_used(tmp_path: Path, fake_nvml: Path) -> None:
    old = "fail nvmlDeviceGetMemoryInfo_v2 13\ngpu 24576 512 1024 0 GPU-aaaa A"
    async with box(tmp_path, fake_nvml, old) as one:
        [gpu] = (await one.reports(gpus=1, problem=None))["gpus"]
    assert (gpu["total"], gpu["used"]) == (24 * GIB, 1 * GIB + GIB // 2)


async def test_no_library_is_an_empty_list_and_no_problem(tmp_path: Path) -> None:
    # An empty file hides the real library of a box that has one: the loader goes no further.
    (tmp_path / "libnvidia-ml.so.1").touch()
    async with box(tmp_path, tmp_path, TWO_GPUS) as none:
        await none.reports(gpus=0, problem=None)


async def test_no_driver_is_a_problem_in_words_and_recovers(
    tmp_path: Path, fake_nvml: Path
) -> None:
    async with box(tmp_path, fake_nvml, "fail nvmlInitWithFlags 9") as two:
        await two.reports(gpus=0, problem="the NVIDIA driver is not loaded")
        two.set(TWO_GPUS)
        await two.reports(gpus=2, problem=None)


async def test_no_gpu_is_a_problem_in_words_and_recovers(tmp_path: Path, fake_nvml: Path) -> None:
    async with box(tmp_path, fake_nvml, "") as two:
        await two.reports(gpus=0, problem="the NVIDIA driver finds no GPU")
        two.set(TWO_GPUS)
        await two.reports(gpus=2, problem=None)


async def test_a_driver_mismatch_is_a_problem_in_words_and_recovers(
    tmp_path: Path, fake_nvml: Path
) -> None:
    async with box(tmp_path, fake_nvml, "fail nvmlInitWithFlags 18") as two:
        await two.reports(gpus=0, problem="differ in version")
        two.set(TWO_GPUS)
        await two.reports(gpus=2, problem=None)


async def test_an_error_without_words_of_ours_is_told_in_nvmls(
    tmp_path: Path, fake_nvml: Path
) -> None:
    async with box(tmp_path, fake_nvml, "fail nvmlDeviceGetCount_v2 999") as two:
        await two.reports(gpus=0, problem="NVML says: Unknown Error")
        two.set(TWO_GPUS)
        await two.reports(gpus=2, problem=None)


async def test_a_lost_gpu_is_left_out_and_named_until_it_is_back(
    tmp_path: Path, fake_nvml: Path
) -> None:
    async with box(tmp_path, fake_nvml, TWO_GPUS) as two:
        await two.reports(gpus=2, problem=None)
        two.set(TWO_GPUS + "lost 0")
        report = await two.reports(gpus=1, problem="GPU 0: lost")
        assert report["gpus"][0]["index"] == 1
        two.set(TWO_GPUS)
        await two.reports(gpus=2, problem=None)


async def test_a_hung_driver_does_not_stop_the_event_loop(tmp_path: Path, fake_nvml: Path) -> None:
    async with box(tmp_path, fake_nvml, TWO_GPUS) as two:
        before = await two.reports(gpus=2, problem=None)
        two.set(TWO_GPUS + "hang nvmlDeviceGetMemoryInfo_v2")
        during = await two.reports(gpus=2, problem="NVML has not answered for 0.3 s")
        assert during["gpus"] == before["gpus"]
        two.set(TWO_GPUS)
        await two.reports(gpus=2, problem=None)


async def test_a_hung_driver_does_not_stop_the_end_of_the_program(
    tmp_path: Path, fake_nvml: Path
) -> None:
    async with box(tmp_path, fake_nvml, TWO_GPUS + "hang nvmlInitWithFlags") as hung:
        await hung.reports(gpus=0, problem="NVML has not answered")
        hung.program.terminate()
        assert await hung.program.wait() == 0, hung.program.log()


class Stuck:
    """A source that answers when it is let go."""

    def __init__(self) -> None:
        self.reads = 0
        self.let_go = threading.Event()

    def read(self) -> Memory:
        self.reads += 1
        self.let_go.wait()
        return Memory(Host(3, 2, 1), (), None)


async def test_no_read_is_queued_behind_one_that_hangs() -> None:
    stuck = Stuck()
    with MemoryReader(stuck, deadline=0.01) as reader:
        for _ in range(5):
            assert (await reader.read()).problem == "NVML has not answered for 0.01 s"
        assert stuck.reads == 1
        stuck.let_go.set()
        answered = Memory(Host(3, 2, 1), (), None)

        async def answers() -> bool:
            """the reader tells what the source says"""
            return await reader.read() == answered

        await until(answers)


async def test_a_hang_before_any_figure_leaves_those_of_the_host() -> None:
    stuck = Stuck()
    with MemoryReader(stuck, deadline=0.01) as reader:
        assert (await reader.read()).host.total == psutil.virtual_memory().total
        stuck.let_go.set()


async def test_a_reader_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    stuck = Stuck()
    stuck.let_go.set()
    with MemoryReader(stuck) as reader:
        await reader.read()
    assert set(threading.enumerate()) <= before


async def test_a_read_that_fails_fails_where_it_is_awaited() -> None:
    class Broken:
        def read(self) -> Memory:
            raise RuntimeError("a bug")

    with MemoryReader(Broken()) as reader:
        with pytest.raises(RuntimeError, match="a bug"):
            await reader.read()
        with pytest.raises(RuntimeError, match="a bug"):
            await reader.read()
