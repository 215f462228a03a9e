"""The fake NVML keeps its word: its figures move with the programs on the GPUs, as real ones do.

Rule: all is read through the real binding, by a program of its own at each look.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness import engine, free_port, until

TWO_GPUS = "gpu 24576 0 100 0 GPU-aaaa A\ngpu 24576 0 200 0 GPU-bbbb B\n"
LOOK = """\
import json, pynvml
pynvml.nvmlInit()
devices = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
used = [pynvml.nvmlDeviceGetMemoryInfo(device).used >> 20 for device in devices]
def listed(processes):
    return {p.pid: p.usedGpuMemory and p.usedGpuMemory >> 20 for p in processes}
computing = [listed(pynvml.nvmlDeviceGetComputeRunningProcesses(device)) for device in devices]
drawing = [listed(pynvml.nvmlDeviceGetGraphicsRunningProcesses(device)) for device in devices]
print(json.dumps({"used": used, "computing": computing, "drawing": drawing}))
"""
Look = Callable[[], dict[str, Any]]


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    (tmp_path / "processes").mkdir()
    file = tmp_path / "driver"
    say(file)
    return file


def say(driver: Path, more: str = "") -> None:
    driver.write_text(f"{TWO_GPUS}processes {driver.parent}/processes\n{more}")


@pytest.fixture
def look(fake_nvml: Path, driver: Path) -> Look:
    env = {"LD_LIBRARY_PATH": str(fake_nvml), "FAKE_NVML": str(driver)}

    def now() -> dict[str, Any]:
        argv = [sys.executable, "-c", LOOK]
        looked = subprocess.run(argv, env=env, check=True, capture_output=True, text=True)
        return dict(json.loads(looked.stdout))

    return now


async def test_an_engine_takes_half_while_it_loads_and_all_when_it_is_ready(
    tmp_path: Path, driver: Path, look: Look
) -> None:
    env = {"FAKE_NVML": str(driver), "CUDA_VISIBLE_DEVICES": "GPU-bbbb"}
    switches = ("--vram", "4096", "--load-seconds", "1.5")
    async with engine(tmp_path, free_port(), *switches, env=env) as program:
        await until(lambda: look()["used"] == [100, 200 + 2048])
        loaded = {str(program.pid): 4096}
        await until(lambda: look()["computing"] == [{}, loaded])
        assert look() == {"used": [100, 200 + 4096], "computing": [{}, loaded], "drawing": [{}, {}]}
        program.kill()
        await program.wait()
        assert look()["used"] == [100, 200]
        assert look()["computing"] == [{}, {}]


async def test_an_engine_takes_its_memory_evenly_of_the_gpus_it_may_see(
    tmp_path: Path, driver: Path, look: Look
) -> None:
    env = {"FAKE_NVML": str(driver), "CUDA_VISIBLE_DEVICES": "GPU-bbbb,GPU-aaaa"}
    async with engine(tmp_path, free_port(), "--vram", "4096", env=env):
        await until(lambda: look()["used"] == [100 + 2048, 200 + 2048])


async def test_an_engine_can_be_told_which_gpu_and_takes_none_that_it_may_not_see(
    tmp_path: Path, driver: Path, look: Look
) -> None:
    env = {"FAKE_NVML": str(driver), "CUDA_VISIBLE_DEVICES": ""}
    async with (
        engine(tmp_path, free_port(), "--vram", "512", env=env),
        engine(tmp_path, free_port(), "--vram", "1:1024", env=env),
    ):
        await until(lambda: look()["used"] == [100, 200 + 1024])
        assert len(look()["computing"][1]) == 1


async def test_an_engine_gets_no_more_than_there_is(tmp_path: Path, driver: Path) -> None:
    env = {"FAKE_NVML": str(driver), "CUDA_VISIBLE_DEVICES": "GPU-aaaa"}
    async with engine(tmp_path, free_port(), "--vram", "20000", env=env) as first:
        await until(lambda: "ready" in first.log())
        async with engine(tmp_path, free_port(), "--vram", "5000", env=env) as second:
            assert await second.wait() == 1
            assert "out of memory" in second.log()


async def test_what_is_listed_can_be_less_than_what_is_there(
    tmp_path: Path, driver: Path, look: Look
) -> None:
    env = {"FAKE_NVML": str(driver)}
    async with engine(tmp_path, free_port(), "--vram", "512", env=env) as program:
        pid = program.pid
        await until(lambda: look()["computing"] == [{str(pid): 512}, {}])
        say(driver, "foreign-pids\ngraphics\n")
        listed = [{str(pid + 2**30): 512}, {}]
        assert look() == {"used": [612, 200], "computing": listed, "drawing": listed}
        say(driver, "untold-use\n")
        assert look()["computing"] == [{str(pid): None}, {}]


async def test_memory_can_stay_used_after_its_program(
    tmp_path: Path, driver: Path, look: Look
) -> None:
    env = {"FAKE_NVML": str(driver)}
    async with engine(tmp_path, free_port(), "--vram", "512", env=env) as program:
        await until(lambda: look()["used"] == [612, 200])
        say(driver, "lag 60\n")
        program.kill()
        await program.wait()
        assert look() == {"used": [612, 200], "computing": [{}, {}], "drawing": [{}, {}]}
