"""F30: a sidecar that was killed and never comes back, and the guard that ends its engines."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from sidecar.identity import Identity
from sidecar.state import StateFolder
from tests.harness import children_of, is_guard, until
from tests.http.boxes import Box, Json, box, fake

QUICK = {"orphan_grace": "0.2s"}
SOON = {"stop_timeout": 0.2}
DEAF = ("--deaf", "--fork", "1", "--setsid-child", "--clean-child")


@asynccontextmanager
async def killed(tmp: Path, **models: Json) -> AsyncIterator[set[Identity]]:
    """A sidecar that is killed when all its engines are ready: what it leaves behind."""
    async with box(tmp, models, **QUICK) as it:
        for name in models:
            await it.load(name)
        left = family(it)
        assert guard_of(it).pid in {who.pid for who in left}
        it.server.program.kill()
        await it.server.program.wait()
        yield left


def family(it: Box) -> set[Identity]:
    return {Identity.of(child.pid) for child in children_of(it.server.program.pid)}


def guard_of(it: Box) -> psutil.Process:
    [guard] = filter(is_guard, children_of(it.server.program.pid))
    return guard


def run(processes: Iterable[Identity]) -> set[Identity]:
    """Those that still do. Whoever inherited a zombie may take its time."""
    return {who for who in processes if who.lives and not is_zombie(who.pid)}


def is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_f30_nothing_is_left_of_a_sidecar_that_never_comes_back(tmp_path: Path) -> None:
    models = {"a": fake("--fork", "1", **SOON), "b": fake(*DEAF, **SOON)}
    async with killed(tmp_path, **models) as left:
        assert len(left) == 1 + 2 + 4  # the guard, and the two engines with their children
        await until(lambda: not run(left))


async def test_f30_an_engine_hears_the_polite_word_first(tmp_path: Path) -> None:
    async with box(tmp_path, {"a": fake()}, **QUICK) as it:
        await it.load("a")
        left = family(it)
        it.server.program.kill()
        await until(lambda: not run(left))
        assert it.journal("a", "sigterm")
        log = it.folder / "state" / "logs" / "guard.log"
        assert log.read_text() == "no sidecar for 0.2 s: engines that are ended: 1\n"


async def test_f30_a_sidecar_that_comes_back_and_dies_without_a_guard_is_guarded_by_the_last_one(
    tmp_path: Path,
) -> None:
    async with killed(tmp_path, a=fake()) as left:
        folder = StateFolder(tmp_path / "state")
        await asyncio.sleep(2 * 0.2)  # longer than its grace: that nothing happens is not watched
        assert len(run(left)) == 2
        folder.close()
        await until(lambda: not run(left))


async def test_f30_a_guard_is_relieved_by_that_of_the_next_sidecar(tmp_path: Path) -> None:
    async with box(tmp_path, {"a": fake()}) as it:
        await it.load("a")
        guard = Identity.of(guard_of(it).pid)
        it.server.program.kill()
        await it.server.program.wait()
    async with box(tmp_path, {"a": fake()}) as it:
        await until(lambda: not run([guard]))
        assert (await it.of("a"))["phase"] == "ready"
        await it.unload("a")


async def test_f30_a_stop_command_that_hangs_does_not_keep_the_guard(tmp_path: Path) -> None:
    hangs = ["sh", "-c", f"echo $$ >{tmp_path}/hangs; exec sleep 60"]
    async with killed(tmp_path, a=fake(stop_command=hangs, **SOON)) as left:
        await until(lambda: not run(left))
        assert not psutil.pid_exists(int((tmp_path / "hangs").read_text()))


async def test_a_guard_that_has_died_is_replaced(tmp_path: Path) -> None:
    async with box(tmp_path, {"a": fake()}) as it:
        first = await until(lambda: guard_of(it))
        first.kill()

        def another() -> bool:
            try:
                return guard_of(it).pid != first.pid
            except ValueError:
                return False

        await until(another)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_sidecar_that_ends_properly_takes_its_guard_with_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with box(tmp_path, {"a": fake()}) as it:
        await it.load("a")
        left = family(it)
        os.kill(it.server.program.pid, number)
        assert await it.server.program.wait() == 0
        assert not any(who.lives for who in left)


async def test_the_marks_of_engines_stand_in_no_command_line(tmp_path: Path) -> None:
    async with box(tmp_path, {"a": fake()}) as it:
        folder = it.folder / "state"
        secret = (folder / "secret").read_bytes()
        await it.load("a")
        [engine] = [e["pid"] for e in it.journal("a", "started")]
        mark = psutil.Process(engine).environ()["SWAPYARD_LAUNCH"]
        guard = guard_of(it)
        assert mark.partition(".")[0] not in " ".join(guard.cmdline())
        assert secret.hex() not in str(guard.environ())
