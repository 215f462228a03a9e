"""What each engine takes of the GPUs and of the host, told by the leader of its session."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.harness import ENGINE, MARK, MARK_VALUE, ROOT, free_port, until
from tests.http.memories import Box, box

MIB = 2**20
# Leads a session; the engine is its child, as it is a child of vLLM's first process, for one.
LEADER = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"


def driver(tmp: Path, more: str = "") -> str:
    (tmp / "processes").mkdir(exist_ok=True)
    cards = "gpu 24576 0 100 0 GPU-aaaa A\ngpu 24576 0 0 0 GPU-bbbb B\n"
    return f"{cards}processes {tmp}/processes\n{more}"


@contextmanager
def engine(tmp: Path, vram: str, gpus: str, *before: str) -> Iterator[int]:
    """Its leader's pid."""
    argv = [sys.executable, str(ENGINE), "--port", str(free_port()), "--vram", vram]
    env = {"FAKE_NVML": str(tmp / "driver"), "CUDA_VISIBLE_DEVICES": gpus, MARK: MARK_VALUE}
    process = subprocess.Popen(
        [*before, *argv], env=os.environ | env, cwd=ROOT, start_new_session=True
    )
    try:
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def uses(two: Box, leader: int, **gpus: int) -> dict[str, int]:
    """What is told of it, once that is so of the GPUs and something of the host."""
    wanted = {name: mib * MIB for name, mib in gpus.items()}

    def told() -> dict[str, int] | None:
        of_it = dict(two.last()["uses"].get(str(leader), {}))
        host = of_it.pop("host", None)
        return {"host": host} if host and of_it == wanted else None

    return await until(told)


async def test_what_an_engine_takes_is_told_by_gpu_and_of_the_host(
    tmp_path: Path, fake_nvml: Path
) -> None:
    async with box(tmp_path, fake_nvml, driver(tmp_path)) as two:
        with (
            engine(tmp_path, "4096", "GPU-aaaa") as a,
            engine(tmp_path, "2048", "GPU-bbbb,GPU-aaaa") as b,
        ):
            two.leaders.write_text(f"{a} {b}")
            host = (await uses(two, a, gpu0=4096))["host"]
            await uses(two, b, gpu0=1024, gpu1=1024)
            assert MIB < host < 2 * psutil.Process(a).memory_info().rss
            assert two.last()["gpus"][0]["used"] == (100 + 4096 + 1024) * MIB


async def test_the_children_of_an_engine_count_as_the_engine(
    tmp_path: Path, fake_nvml: Path
) -> None:
    async with box(tmp_path, fake_nvml, driver(tmp_path)) as two:
        with engine(tmp_path, "512", "GPU-bbbb", sys.executable, "-c", LEADER) as leader:
            two.leaders.write_text(str(leader))
            host = (await uses(two, leader, gpu1=512))["host"]
            assert host > psutil.Process(leader).memory_info().rss


async def test_a_process_that_nobody_asks_for_or_that_has_ended_is_not_told(
    tmp_path: Path, fake_nvml: Path
) -> None:
    async with box(tmp_path, fake_nvml, driver(tmp_path)) as two:
        with engine(tmp_path, "512", "GPU-aaaa") as a, engine(tmp_path, "512", "GPU-aaaa") as b:
            two.leaders.write_text(str(b))
            await uses(two, b, gpu0=512)
            assert two.last()["uses"].keys() == {str(b)}
        await until(lambda: two.last()["uses"] == {str(b): {}} and a)


async def test_where_the_drivers_pids_are_not_ours_only_the_hosts_memory_is_told(
    tmp_path: Path, fake_nvml: Path
) -> None:
    async with box(tmp_path, fake_nvml, driver(tmp_path, "foreign-pids\n")) as two:
        with engine(tmp_path, "512", "GPU-aaaa") as it:
            two.leaders.write_text(str(it))
            await until(lambda: two.last()["gpus"] and two.last()["gpus"][0]["used"] == 612 * MIB)
            await uses(two, it)


async def test_a_use_that_the_driver_does_not_tell_is_no_zero(
    tmp_path: Path, fake_nvml: Path
) -> None:
    async with box(tmp_path, fake_nvml, driver(tmp_path, "untold-use\n")) as two:
        with engine(tmp_path, "512", "GPU-aaaa") as it:
            two.leaders.write_text(str(it))
            await until(lambda: two.last()["gpus"] and two.last()["gpus"][0]["used"] == 612 * MIB)
            await uses(two, it)


async def test_a_driver_that_lists_no_processes_is_no_problem(
    tmp_path: Path, fake_nvml: Path
) -> None:
    neither = (
        "fail nvmlDeviceGetComputeRunningProcesses_v3 3\n"
        "fail nvmlDeviceGetGraphicsRunningProcesses_v3 13\n"
    )
    async with box(tmp_path, fake_nvml, driver(tmp_path, neither)) as two:
        with engine(tmp_path, "512", "GPU-aaaa") as it:
            two.leaders.write_text(str(it))
            await uses(two, it)
            assert two.last()["problem"] is None


async def test_who_draws_and_computes_is_counted_once(tmp_path: Path, fake_nvml: Path) -> None:
    async with box(tmp_path, fake_nvml, driver(tmp_path, "graphics\n")) as two:
        with engine(tmp_path, "512", "GPU-aaaa") as it:
            two.leaders.write_text(str(it))
            await uses(two, it, gpu0=512)


async def test_memory_that_comes_back_late_is_used_and_nobodys(
    tmp_path: Path, fake_nvml: Path
) -> None:
    async with box(tmp_path, fake_nvml, driver(tmp_path, "lag 0.5\n")) as two:
        with engine(tmp_path, "512", "GPU-aaaa") as it:
            two.leaders.write_text(str(it))
            await uses(two, it, gpu0=512)
        await until(lambda: two.last()["uses"] == {str(it): {}})
        assert two.last()["gpus"][0]["used"] == 612 * MIB
        await until(lambda: two.last()["gpus"][0]["used"] == 100 * MIB)
