"""One OS process of an engine as its sidecar sees it: real processes, groups, files and pipes."""

import asyncio
import dataclasses
import os
import resource
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from sidecar.engines.launch import Launch
from sidecar.failure import Exit
from sidecar.machine import Fact
from sidecar.process import LINE_LIMIT, LINES_KEPT, LOG_LIMIT, Log, Process
from sidecar.runner import POLL, Runner
from sidecar.state import MARK as LAUNCH
from tests.harness import MARK, MARK_VALUE, children_of, free_port, until

ENV = {"PATH": os.environ["PATH"], MARK: MARK_VALUE}
DEAF = 'trap "" TERM; '
A_CHILD_THAT_SAYS_GOODBYE = """
(trap "echo child said goodbye; exit" TERM; echo up; while :; do sleep 0.02; done) &
trap "" TERM; wait; exit 7
"""


@asynccontextmanager
async def running(tmp: Path, script: str, stdin: Path | None = None) -> AsyncIterator[Process]:
    mark = uuid.uuid4().hex
    env = {**ENV, LAUNCH: mark}
    process = Process.spawn(["sh", "-c", script], env, tmp / "log", stdin, mark)
    try:
        yield process
    finally:
        process.signal(force=True)
        await asyncio.shield(process.exited)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


def write(fifo: Path, line: str) -> None:
    fifo.write_text(f"{line}\n")


def fill(process: Process, fifo: Path) -> None:
    while True:
        process.say(b"\n" * 4096, fifo)


def said(tmp: Path) -> list[str]:
    path = tmp / "log"
    return path.read_text().splitlines() if path.exists() else []


def open_files() -> set[str]:
    folder = "/proc/self/fd"
    return {f"{n} {os.readlink(f'{folder}/{n}')}" for n in os.listdir(folder) if is_open(int(n))}


def is_open(number: int) -> bool:
    """Not so for the one that lists the folder."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def gone(pid: int) -> bool:
    """Whoever reaps it may take a moment more."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def no_descriptors() -> Iterator[list[EventDict]]:
    """For as long as the block lasts no file is opened; what is logged meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with capture_logs() as logged:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            yield logged
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# What it is.


async def test_an_engine_leads_a_session_and_a_group_of_its_own(tmp_path: Path) -> None:
    async with running(tmp_path, "sleep 60") as process:
        assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid


async def test_the_exit_code_is_told_and_a_signal_is_negative(tmp_path: Path) -> None:
    async with running(tmp_path, "exit 3") as ends, running(tmp_path, "kill -SEGV $$") as crashes:
        assert (await ends.exited, await crashes.exited) == (3, -signal.SIGSEGV)


async def test_an_engine_sees_no_file_of_its_sidecar(tmp_path: Path, fifo: Path) -> None:
    async with running(tmp_path, "read it", fifo) as process:
        assert sorted(os.listdir(f"/proc/{process.pid}/fd")) == ["0", "1", "2"]


async def test_an_engine_may_open_as_many_files_as_without_its_sidecar(tmp_path: Path) -> None:
    """Which itself takes as many as it can."""
    soft, hard = before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft > 256
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        async with running(tmp_path, "sleep 60") as process:
            assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == before
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_it_has_only_the_environment_that_it_was_given(tmp_path: Path) -> None:
    async with running(tmp_path, "env") as process:
        await process.exited
    given = {line.split("=")[0] for line in said(tmp_path)} - {"PWD", "_", "SHLVL"}
    assert given == {*ENV, LAUNCH}


async def test_no_file_stays_open_when_it_has_ended(tmp_path: Path, fifo: Path) -> None:
    before = open_files()
    log = Log(tmp_path / "log")
    async with running(tmp_path, "exit 0", fifo) as process:
        await process.exited
    log.close()
    assert open_files() == before


async def test_a_program_that_cannot_start_leaves_nothing(tmp_path: Path, fifo: Path) -> None:
    before = open_files()
    with pytest.raises(FileNotFoundError):
        Process.spawn(["/no/such/program"], ENV, tmp_path / "log", fifo, "mark")
    assert open_files() == before
    assert not children_of(os.getpid())


# Its end.


async def test_the_polite_word_reaches_its_children(tmp_path: Path) -> None:
    async with running(tmp_path, A_CHILD_THAT_SAYS_GOODBYE) as process:
        await until(lambda: "up" in said(tmp_path))
        process.signal(force=False)
        assert await process.exited == 7
    assert "child said goodbye" in said(tmp_path)


async def test_force_reaches_children_that_are_deaf(tmp_path: Path) -> None:
    async with running(tmp_path, f"{DEAF} sleep 60 & echo $!; wait; wait") as process:
        [child] = await until(lambda: said(tmp_path))
        process.signal(force=False)
        process.signal(force=True)
        assert await process.exited == -signal.SIGKILL
    await until(lambda: gone(int(child)))


async def test_children_that_their_leader_leaves_behind_are_ended(tmp_path: Path) -> None:
    async with running(tmp_path, f"{DEAF} sleep 60 & echo $!; exit 4") as process:
        assert await process.exited == 4
    [child] = said(tmp_path)
    await until(lambda: gone(int(child)))


async def test_a_frozen_engine_hears_the_polite_word(tmp_path: Path) -> None:
    async with running(tmp_path, 'trap "exit 5" TERM; echo up; while :; do sleep 0.02; done') as it:
        await until(lambda: "up" in said(tmp_path))
        os.kill(it.pid, signal.SIGSTOP)
        await until(lambda: psutil.Process(it.pid).status() == psutil.STATUS_STOPPED)
        it.signal(force=False)
        assert await it.exited == 5


async def test_a_line_wakes_a_frozen_engine_to_read_it(tmp_path: Path, fifo: Path) -> None:
    async with running(tmp_path, 'read it; exit "$it"', fifo) as process:
        os.kill(process.pid, signal.SIGSTOP)
        await until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        process.say(b"6\n", fifo)
        assert await process.exited == 6


async def test_a_line_that_nobody_reads_is_refused_and_not_waited_for(
    tmp_path: Path, fifo: Path
) -> None:
    async with running(tmp_path, "exec sleep 60", fifo) as process:
        with pytest.raises(BlockingIOError):
            fill(process, fifo)
    with pytest.raises(OSError, match="No such device"):
        process.say(b"\n", fifo)


async def test_a_signal_after_the_end_goes_to_nobody(tmp_path: Path) -> None:
    async with running(tmp_path, "exit 0") as process:
        await process.exited
        process.signal(force=False)
        process.signal(force=True)


async def test_an_adopted_engine_is_ended_like_one_of_our_own(tmp_path: Path) -> None:
    async with running(tmp_path, f"{DEAF} setsid sleep 60 & wait; wait") as process:
        adopted = Process.adopt(process.identity, "another mark")
        assert adopted is not None
        [child] = await until(lambda: children_of(process.pid))
        await until(lambda: os.getsid(child.pid) == child.pid)
        adopted.signal(force=True)
        assert await adopted.exited is None
        assert gone(child.pid)


async def test_who_has_the_number_of_an_engine_now_is_not_adopted(tmp_path: Path) -> None:
    before = open_files()
    async with running(tmp_path, "sleep 60") as process:
        earlier = dataclasses.replace(process.identity, started=1)
        assert Process.adopt(earlier, "mark") is None
    assert Process.adopt(process.identity, "mark") is None
    assert open_files() == before


# What it says.


async def test_a_fifo_as_stdin_never_sees_its_end(tmp_path: Path, fifo: Path) -> None:
    async with running(tmp_path, "exec cat", fifo) as process:
        write(fifo, "first")
        await until(lambda: said(tmp_path) == ["first"])
        write(fifo, "second")
        await until(lambda: said(tmp_path) == ["first", "second"])
        assert not process.exited.done()


async def test_a_log_is_cut_at_its_limit_and_goes_on(tmp_path: Path, fifo: Path) -> None:
    log = Log(tmp_path / "log")
    script = f"yes 0123456789 | head -c {LOG_LIMIT + 1000}; echo; read it; echo then $it"
    async with running(tmp_path, script, fifo) as process:
        await until(lambda: log.path.stat().st_size > LOG_LIMIT + 1000)
        lines = log.poll()
        assert set(lines[:-1]) == {"0123456789"}
        assert log.path.stat().st_size == 0
        write(fifo, "more")
        await process.exited
    assert log.path.read_text() == "then more\n"
    assert log.tail(1) == ("then more",)
    assert len(log.lines) == LINES_KEPT
    log.close()


async def test_an_unfinished_line_is_shown_and_never_told_twice(tmp_path: Path, fifo: Path) -> None:
    log = Log(tmp_path / "log")
    async with running(tmp_path, "printf 'one\\ntw'; read it; echo o", fifo) as process:
        await until(lambda: log.tail(9) == ("one", "tw"))
        assert log.poll() == ["one"]
        write(fifo, "")
        await process.exited
    assert log.poll() == ["two"]
    assert log.tail(9) == ("one", "two")
    log.close()


def test_a_line_without_end_and_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    (tmp_path / "log").write_bytes(b"\xff\xfe\r\n" + b"x" * 10 * LINE_LIMIT + b"\nend\n")
    assert log.poll() == ["\ufffd\ufffd", "x" * LINE_LIMIT, "end"]
    log.close()


def test_the_lines_stay_when_the_file_is_closed(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    (tmp_path / "log").write_text("first\nlast words")
    log.close()
    assert log.tail(9) == ("first", "last words")


# Its supervision.


class Facts:
    def __init__(self) -> None:
        self.seen: list[Fact] = []

    def saw(self, fact: Fact, exit: Exit | None = None) -> None:
        self.seen.append(fact)

    def progressed(self, value: float) -> None: ...
    def sign_of_life(self) -> None: ...


async def test_an_engine_is_told_to_go_as_soon_as_it_can_be_found(tmp_path: Path) -> None:
    async with running(tmp_path, "sleep 60") as process:
        with no_descriptors() as logged:
            process.signal(force=True)
            assert [event["error"] for event in logged] == [
                "[Errno 24] Too many open files: '/proc'"
            ]
        assert await asyncio.wait_for(process.exited, 5) == -signal.SIGKILL


@asynccontextmanager
async def runner_of(tmp: Path, script: str) -> AsyncIterator[Runner]:
    """With its process, and before anybody has begun to follow it."""
    env = {MARK: MARK_VALUE, LAUNCH: uuid.uuid4().hex}
    launch = Launch(["sh", "-c", script], env, port=free_port(), key="", silence=1)
    async with httpx.AsyncClient(trust_env=False, verify=False) as http:
        runner = Runner(launch, tmp / "log", tmp / "fifo", Facts(), http)
        runner.spawn()
        yield runner


async def test_a_load_goes_on_when_its_port_could_not_be_looked_at_for_a_while(
    tmp_path: Path,
) -> None:
    async with runner_of(tmp_path, "sleep 60") as runner:
        supervision = asyncio.ensure_future(runner.run())
        with no_descriptors() as logged:
            await until(lambda: logged)
            polls = asyncio.get_running_loop().time() + 10 * POLL
            await until(lambda: asyncio.get_running_loop().time() > polls)
            assert len(logged) == 1
        assert not supervision.done()
        runner.stop(force=True)
        await asyncio.wait_for(supervision, 5)


async def test_force_is_not_forgotten_where_a_launch_is_not_followed_yet(tmp_path: Path) -> None:
    async with runner_of(tmp_path, f"{DEAF} echo deaf; while :; do sleep 0.1; done") as runner:
        await until(lambda: "deaf" in said(tmp_path))
        runner.stop(force=True)
        await asyncio.wait_for(runner.run(), 5)


async def test_an_engine_never_outlives_its_supervision(tmp_path: Path) -> None:
    script = f"{DEAF} exec sleep 60"
    launch = Launch(
        ["sh", "-c", script],
        {MARK: MARK_VALUE, LAUNCH: uuid.uuid4().hex},
        port=0,
        key="",
        silence=1,
    )
    async with httpx.AsyncClient(trust_env=False, verify=False) as http:
        runner = Runner(launch, tmp_path / "log", tmp_path / "fifo", Facts(), http)
        runner.spawn()
        supervision = asyncio.ensure_future(runner.run())
        process = await until(lambda: runner.process)
        await asyncio.sleep(0)  # it has begun
        supervision.cancel()
        await asyncio.wait({supervision})
        assert await asyncio.wait_for(process.exited, 5) == -signal.SIGKILL


@pytest.mark.parametrize("stop_command", [(), ("true",)])
async def test_the_process_of_an_engine_leads_it_unless_the_engine_is_elsewhere(
    tmp_path: Path, stop_command: tuple[str, ...]
) -> None:
    argv, env = ["sleep", "60"], {MARK: MARK_VALUE, LAUNCH: uuid.uuid4().hex}
    launch = Launch(argv, env, port=0, key="", silence=1, stop_command=stop_command)
    async with httpx.AsyncClient(trust_env=False, verify=False) as http:
        runner = Runner(launch, tmp_path / "log", tmp_path / "fifo", Facts(), http)
        assert runner.leader is None
        runner.spawn()
        supervision = asyncio.ensure_future(runner.run())
        process = await until(lambda: runner.process)
        assert runner.leader == (None if stop_command else process.pid)
        assert os.getsid(process.pid) == process.pid
        runner.stop(force=True)
        await asyncio.wait_for(supervision, 5)
        assert runner.leader is None


def test_what_was_shown_to_somebody_is_still_news_to_who_follows_the_log(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    (tmp_path / "log").write_text("ready\nhalf")
    assert log.tail(5) == ("ready", "half")
    assert log.poll() == ["ready"]
    assert log.poll() == []
    log.close()


def test_of_a_flood_the_newest_is_read_and_no_more_at_once(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    (tmp_path / "log").write_text("".join(f"{n}\n" for n in range(500_000)))
    lines = log.poll()
    assert lines[-1] == "499999"
    assert len(lines) == LINES_KEPT
    log.close()


def test_of_many_lines_at_once_the_newest_are_kept_whole(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    for count in (LINES_KEPT - 1, LINES_KEPT, LINES_KEPT + 1):
        with log.path.open("a") as file:
            file.write("".join(f"{n}\n" for n in range(count)) + "hal")
        expected = [str(n) for n in range(count)][-LINES_KEPT:]
        assert log.poll()[1:] == expected[1:]
        assert log.tail(1) == ("hal",)
        with log.path.open("a") as file:
            file.write("f\n")
        assert log.poll() == ["half"]
    log.close()


def test_what_is_drawn_in_one_line_moves_too(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    log.path.write_bytes(b"loading: 10 %")
    assert (log.poll(), log.moved) == ([], True)
    assert (log.poll(), log.moved) == ([], False)
    with log.path.open("ab") as file:
        file.write(b"\rloading: 20 %")
    log.tail(1)
    assert (log.poll(), log.moved) == ([], True)
    log.close()
