"""The memory of a box, read through the real NVML binding from a fake driver.

What an engine takes of it is in `test_gpu_uses.py`, AMD's GPUs in `test_amd.py`.
"""

import asyncio
import threading
from pathlib import Path

import psutil
import pytest

from sidecar.gpu import Host, Memory, MemoryReader
from sidecar.lookout import Lookout
from tests.harness import until
from tests.http.memories import box

GIB = 2**30
NOBODY: frozenset[int] = frozenset()
TWO_GPUS = """\
gpu 24576 512 1024 37 GPU-aaaa NVIDIA GeForce RTX 4090
gpu 81920 0 40960 -1 GPU-bbbb NVIDIA H100 80GB HBM3
"""


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


async def test_no_library_is_no_problem_but_is_told_and_recovers(
    tmp_path: Path, fake_nvml: Path
) -> None:
    # An empty file hides the real library of a box that has one: the loader goes no further.
    library = tmp_path / "libnvidia-ml.so.1"
    library.touch()
    async with box(tmp_path, tmp_path, TWO_GPUS) as two:
        report = await two.reports(gpus=0, problem=None)
        said = "no library: there is no libnvidia-ml.so.1"
        assert report["drivers"] == {"nvidia": said, "amd": "no GPU of AMD"}
        assert said in two.program.log().replace(str(report), "")
        library.unlink()
        library.symlink_to(fake_nvml / library.name)
        report = await two.reports(gpus=2, problem=None)
        assert report["drivers"]["nvidia"] == "ok"


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


@pytest.mark.parametrize(
    ("failure", "problem"),
    [
        ("nvmlInitWithFlags 4", "the NVIDIA driver does not permit us to look"),
        ("nvmlInitWithFlags 17", "the operating system keeps it from us"),
        ("nvmlDeviceGetHandleByIndex_v2 4", "GPU 0: the NVIDIA driver does not permit us to look"),
        ("nvmlDeviceGetMemoryInfo_v2 16", "GPU 1: it must be reset before it can be used again"),
    ],
)
async def test_each_fault_of_a_driver_has_words_of_its_own_and_recovers(
    tmp_path: Path, fake_nvml: Path, failure: str, problem: str
) -> None:
    async with box(tmp_path, fake_nvml, TWO_GPUS + f"fail {failure}\n") as two:
        report = await two.reports(gpus=0, problem=problem)
        assert report["drivers"]["nvidia"] == report["problem"]
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
        self.reading = "NVML"
        self.reads = 0
        self.let_go = threading.Event()

    def read(self, leaders: frozenset[int]) -> Memory:
        self.reads += 1
        self.let_go.wait()
        return Memory(Host(3, 2, 1), (), None)


async def test_no_read_is_queued_behind_one_that_hangs() -> None:
    stuck = Stuck()
    with MemoryReader(stuck, deadline=0.01) as reader:
        for _ in range(5):
            assert (await reader.read(NOBODY)).problem == "NVML has not answered for 0.01 s"
        assert stuck.reads == 1
        stuck.let_go.set()
        answered = Memory(Host(3, 2, 1), (), None)

        async def answers() -> bool:
            """the reader tells what the source says"""
            return await reader.read(NOBODY) == answered

        await until(answers)


async def test_who_waits_for_memory_makes_nobody_ask_a_driver_that_hangs_again_and_again() -> None:
    stuck = Stuck()
    told: list[Memory] = []
    looked_at_files: list[object] = []
    with MemoryReader(stuck, deadline=0.01) as reader:
        lookout = Lookout(reader, await reader.read(NOBODY), known={})

        def tell(seen: Memory) -> None:
            told.append(seen)
            lookout.hurry()  # somebody waits for memory all the time

        async with asyncio.TaskGroup() as group:
            memory = group.create_task(lookout.watch_memory(list, tell))
            files = group.create_task(lookout.watch_files(looked_at_files.append))
            await until(lambda: len(looked_at_files) == 3)
            assert len(told) <= len(looked_at_files) + 1, "as seldom as at the files"
            stuck.let_go.set()
            await until(lambda: told[-1].problem is None)
            memory.cancel()
            files.cancel()


async def test_a_hang_before_any_figure_leaves_those_of_the_host() -> None:
    stuck = Stuck()
    with MemoryReader(stuck, deadline=0.01) as reader:
        assert (await reader.read(NOBODY)).host.total == psutil.virtual_memory().total
        stuck.let_go.set()


async def test_a_reader_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    stuck = Stuck()
    stuck.let_go.set()
    with MemoryReader(stuck) as reader:
        await reader.read(NOBODY)
    assert set(threading.enumerate()) <= before


async def test_a_read_that_fails_fails_where_it_is_awaited() -> None:
    class Broken:
        reading = "nobody"

        def read(self, leaders: frozenset[int]) -> Memory:
            raise RuntimeError("a bug")

    with MemoryReader(Broken()) as reader:
        with pytest.raises(RuntimeError, match="a bug"):
            await reader.read(NOBODY)
        with pytest.raises(RuntimeError, match="a bug"):
            await reader.read(NOBODY)
