"""F04, F05, F06 and F08: engines that do not want to end, and all that they have started.

`python -m tests.faults.stops` does this hundreds of times, and measures it.
"""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tests.faults.stops import KINDS, LOAD, hostiles, stop, zombies
from tests.harness import ROOT, until
from tests.http.boxes import Box, box, fake

GRACE = 0.3  # seconds: `stop_timeout` of each engine here
SLACK = 2.0  # seconds: twice what is promised, for a machine that does much else
MOMENTS = [part * LOAD / 8 for part in range(9)]  # the polite signal may find any of them
GPU = "gpu 1024 0 0 0 GPU-aaaa A\n"
MIB = 2**20


@pytest.fixture(scope="module")
async def it(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Box]:
    names = [f"{kind}.0" for kind in KINDS]
    async with hostiles(tmp_path_factory.mktemp("stopping"), *names, grace=GRACE) as it:
        yield it


async def test_f04_a_deaf_engine_is_ended_by_force_and_the_switch_goes_on(it: Box) -> None:
    await it.load("deaf.0")
    assert (await it.http.post("/models/switch", json={"model": "fork.0"})).status_code == 202
    await it.until("deaf.0", "idle")
    assert it.journal("deaf.0", "sigterm")
    await it.until("fork.0", "ready")
    assert (await it.ask("fork.0")).status_code == 200
    await it.unload("fork.0")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "deaf"])
async def test_f05_a_stop_reaches_all_that_an_engine_has_started(it: Box, kind: str) -> None:
    stopped = await stop(it, f"{kind}.0")
    assert stopped.processes > 1
    assert not stopped.is_bad(GRACE, SLACK), stopped
    assert not zombies(it)


@pytest.mark.parametrize("after", MOMENTS)
async def test_f06_a_load_can_be_stopped_at_any_moment(it: Box, after: float) -> None:
    stopped = await stop(it, "wrapper.0", after)
    assert not stopped.is_bad(GRACE, SLACK), stopped


async def test_f08_workers_whose_main_process_has_ended_give_their_memory_back(
    tmp_path: Path, fake_nvml: Path
) -> None:
    """Before anybody is started in their place."""
    (tmp_path / "programs").mkdir()
    (tmp_path / "driver").write_text(f"{GPU}processes {tmp_path}/programs\n")
    env = {"LD_LIBRARY_PATH": str(fake_nvml), "FAKE_NVML": str(tmp_path / "driver")}
    workers = ("--fork", "2", "--deaf-children", "--children-vram", "300")
    models = {
        "workers": fake("--vram", "100", *workers, vram="700MiB", gpus="auto"),
        "next": fake("--vram", "700", vram="700MiB", gpus="auto"),
    }
    async with box(tmp_path, models, env) as it:
        await it.load("workers")
        await it.http.post("/models/switch", json={"model": "next"})
        await it.until("next", "ready")
        assert len(it.journal("next", "started")) == 1  # a start over them would die, unseen
        assert [event["code"] for event in it.journal("workers", "exit")] == [0]
        pids = [event["pid"] for event in it.journal("workers", "child")]
        assert not any(map(psutil.pid_exists, pids))

        async def used() -> bool:
            """the GPU holds what the new engine takes, and no more"""
            [gpu, _] = (await it.status())["memory"]
            return bool(gpu["used"] == 700 * MIB)

        await until(used)


async def test_a_daemon_that_hides_from_its_engine_leaves_no_zombie(tmp_path: Path) -> None:
    """It has nobody's session, parents or environment: its end alone is seen to."""
    async with box(tmp_path, {"a": fake("--daemon")}) as it:
        await it.load("a")
        [daemon] = it.journal("a", "child")
        assert psutil.Process(daemon["pid"]).ppid() == it.server.program.pid
        await until(lambda: not psutil.pid_exists(daemon["pid"]))


LOOK = """
import os
from sidecar.kin import every_number, look_at
seen = {one.who.pid for one in look_at(every_number())}
print(os.getpid() in seen, 1 in seen)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts /proc")
def test_processes_that_are_hidden_from_us_are_nobodys() -> None:
    """As with `hidepid=1`: they are listed, and cannot be looked at."""
    nobody = "setpriv --reuid 61080 --regid 61080 --clear-groups --inh-caps +dac_override"
    become = f'{nobody} --ambient-caps +dac_override "$@"'
    hidden = f"mount -t proc -o hidepid=1 proc /proc && exec {become}"
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", hidden, "sh"]
    look = subprocess.run(
        [*argv, sys.executable, "-c", LOOK], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert look.stdout == "True False\n"
