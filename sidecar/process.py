"""One OS process of an engine: spawn or adopt, signal it and its kin, see all of them end, read
what they say.

The process leads a session of its own. Its output goes to a file, not to a pipe: an engine whose
reader dies would die with its next write, and one whose pipe nobody reads blocks.
Spawn only from the thread of the event loop: what Linux ties to a parent, it ties to its thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from sidecar.identity import Identity
from sidecar.kin import Kin
from sidecar.looks import Looks
from sidecar.port import holder

LOG_LIMIT = 8 * 2**20  # bytes of the file; beyond, it is cut
READ_AT_ONCE = 2**20  # bytes
LINES_KEPT = 500  # in memory
LINE_LIMIT = 2000  # characters of one line
# Seconds until it is seen whether those are gone that were killed: at first, while it may be a
# driver that takes its time, and at most. Mostly it takes the kernel a millisecond; where it takes
# long, nobody is served by more haste, and each look costs one at all processes.
FIRST_LOOK = 0.001
LATER_LOOK = 0.1
RARE_LOOK = 2.0
SLOWER = 1.1  # a tenth of the time that it has taken already

# How many files we may have open by default. We take more for our connections; an engine gets what
# it would have without us, for some prepare for each file that they may have.
FILES = resource.getrlimit(resource.RLIMIT_NOFILE)


class Log:
    """The file that a process writes to, read as it grows; its last lines stay in memory.

    `secret` is taken out of them: some servers print their settings, keys too, when they start.
    `whole`: what is in the file already is news, too.
    """

    def __init__(self, path: Path, secret: str | None = None, *, whole: bool = False) -> None:
        self.path = path
        self._secret = secret
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._new: deque[str] = deque(maxlen=LINES_KEPT)  # that nobody was handed yet
        self._rest = b""
        self.moved = False  # whether anything at all had come at the last poll
        self._came = False
        self._closed = False
        self._looks = Looks(f"the log {path.name}")
        self._read = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._at = 0 if whole else os.lseek(self._read, 0, os.SEEK_END)

    def poll(self) -> list[str]:
        """The lines that came since the last call, of a flood the newest."""
        self._look()
        self.moved, self._came = self._came, False
        new = list(self._new)
        self._new.clear()
        return new

    def tail(self, count: int) -> tuple[str, ...]:
        """The last lines, an unfinished one among them."""
        self._look()
        lines = [*self.lines, self._text(self._rest)] if self._rest else list(self.lines)
        return tuple(lines[-count:])

    def _look(self) -> None:
        """Read what is there now, and not what is written meanwhile: one that writes faster than
        we read would hold us for ever."""
        if not self._closed:
            with self._looks.one():
                self._read_on()

    def _read_on(self) -> None:
        end = os.fstat(self._read).st_size
        if self._at < end - READ_AT_ONCE:
            self._at, self._rest = end - READ_AT_ONCE, b""
        chunk = os.pread(self._read, max(0, end - self._at), self._at)
        self._at += len(chunk)
        self._came |= bool(chunk)
        *whole, rest = _newest_lines(self._rest + chunk)
        self._rest = rest[: 4 * LINE_LIMIT]
        lines = [self._text(line) for line in whole]
        self.lines.extend(lines)
        self._new.extend(lines)
        if end > LOG_LIMIT:
            os.ftruncate(self._read, 0)  # safe: the writer's descriptor appends
            self._at = 0

    def close(self) -> None:
        """Nothing more is read; what was read last stays."""
        self._look()
        self._closed = True
        os.close(self._read)

    def _text(self, line: bytes) -> str:
        text = line[: 4 * LINE_LIMIT].decode("utf-8", "replace").rstrip("\r")
        return (text.replace(self._secret, "[key]") if self._secret else text)[:LINE_LIMIT]


def _newest_lines(said: bytes) -> list[bytes]:
    """The last lines that are whole, as many as are kept, and what follows them. Of a flood the
    rest is not even looked at: an engine can say more than we have time to read."""
    first, *others = said.rsplit(b"\n", LINES_KEPT)
    return [first.rpartition(b"\n")[2], *others]


class Process:
    """A process and its kin. `exited` is done when the last of them is gone, with the process's
    own exit code, negative for a signal; with None where nobody can know it. `headless`: the same,
    as soon as the process has ended and its kin do not follow it."""

    def __init__(
        self,
        identity: Identity,
        mark: str,
        pidfd: int | None,
        popen: subprocess.Popen[bytes] | None,
    ) -> None:
        """`pidfd`: None if only its kin are left."""
        loop = asyncio.get_running_loop()
        self.identity = identity
        self.exited: asyncio.Future[int | None] = loop.create_future()
        self.headless: asyncio.Future[int | None] = loop.create_future()
        self._kin = Kin(mark, [identity])
        self._pidfd = pidfd
        self._popen = popen  # None: it is not our child
        self._looks = Looks(f"the kin of process {identity.pid}")
        self._listener = identity  # who listens on its port, as far as it was seen
        if pidfd is None:
            self._await_the_rest(self._end_the_rest(), None, FIRST_LOOK)
        else:
            loop.add_reader(pidfd, self._ended, pidfd)

    @classmethod
    def spawn(
        cls,
        argv: Sequence[str],
        env: Mapping[str, str],
        log: Path,
        stdin: Path | None,
        mark: str,
    ) -> Self:
        """`stdin`: a FIFO that the process itself holds open for reading and writing, so that it
        never sees its end and outlives us; None: nothing to read. `mark`: of this launch, as `env`
        has it. OSError if it cannot start."""
        with contextlib.ExitStack() as stack:
            read_from = os.open(stdin or os.devnull, os.O_RDWR | os.O_CLOEXEC)
            stack.callback(os.close, read_from)
            write_to = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, write_to)
            popen = subprocess.Popen(  # an argv list from the config: no shell
                argv,
                env=dict(env),
                stdin=read_from,
                stdout=write_to,
                stderr=write_to,
                start_new_session=True,
            )
        try:
            identity, pidfd = Identity.of(popen.pid), os.pidfd_open(popen.pid)
        except OSError:  # no descriptor left: what we could not watch must not run
            popen.kill()
            popen.wait()
            raise
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it may be another user's
            resource.prlimit(popen.pid, resource.RLIMIT_NOFILE, FILES)
        return cls(identity, mark, pidfd, popen)

    @classmethod
    def adopt(cls, identity: Identity, mark: str) -> Self | None:
        """One that an earlier sidecar has spawned, or those that are left of it, who then follow
        it. None if nobody is."""
        pidfd = _descriptor(identity)
        if pidfd is None and not Kin(mark, [identity]).living():
            return None
        return cls(identity, mark, pidfd, None)

    @property
    def pid(self) -> int:
        return self.identity.pid

    @property
    def lives(self) -> bool:
        """At this very moment, and not only as far as it was told."""
        return self._listener.is_whole

    def listens(self, port: int) -> bool:
        """Whether it is one of these processes who listens there. From now on it `lives` only as
        long as that one: a wrapper outlives its program by a moment, and the port is free then."""
        pid = holder([self.pid], port)
        if pid is None:  # it costs a look at all processes
            pid = holder([who.pid for who in self._kin.living()], port)
        if pid is None:
            return False
        try:
            self._listener = Identity.of(pid)
        except ProcessLookupError:  # it was the last that it did
            return False
        return True

    def signal(self, *, force: bool) -> None:
        """Tell all of it to go. A frozen process must be woken to hear the polite word."""
        self._send(signal.SIGKILL if force else signal.SIGTERM, signal.SIGCONT)

    def say(self, line: bytes, fifo: Path) -> None:
        """Into its stdin, which a frozen process must be woken to read. OSError if it cannot be
        written at once, or it cannot be woken: nobody reads, or nobody has read for long."""
        write_to = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(write_to, line)
        finally:
            os.close(write_to)
        if self._pidfd is not None:
            signal.pidfd_send_signal(self._pidfd, signal.SIGCONT)

    def _send(self, *signals: int) -> None:
        """And again, while there is no descriptor to find them with."""
        if self.exited.done():
            return
        sent = False
        with self._looks.one():
            self._kin.signal(*signals)
            sent = True
        if not sent:
            asyncio.get_running_loop().call_later(LATER_LOOK, self._send, *signals)

    def _ended(self, pidfd: int) -> None:
        """The process itself is gone; those that it left behind follow it."""
        asyncio.get_running_loop().remove_reader(pidfd)
        left = self._end_the_rest()  # before its number is given back by `wait`
        os.close(pidfd)
        self._pidfd = None
        code = self._popen.wait() if self._popen else None
        self._await_the_rest(left, code, FIRST_LOOK)

    def _end_the_rest(self) -> bool:
        """By force. Whether any are left to be waited for."""
        left = True  # without a descriptor to look with: who knows
        with self._looks.one():
            left = self._kin.end() > 0
        return left

    def _await_the_rest(self, left: bool, code: int | None, pause: float) -> None:
        if not left:
            self.exited.set_result(code)
            return
        later = min(2 * pause, LATER_LOOK)
        if pause >= LATER_LOOK:
            later = min(SLOWER * pause, RARE_LOOK)
        if later >= LATER_LOOK and not self.headless.done():
            self.headless.set_result(code)
        asyncio.get_running_loop().call_later(
            pause, lambda: self._await_the_rest(self._end_the_rest(), code, later)
        )


def _descriptor(who: Identity) -> int | None:
    """Of a process that may be gone: then its number may be another's, or that of a thread."""
    if not who.lives:
        return None
    pidfd = os.pidfd_open(who.pid)
    if not who.lives:  # it ended in between, and the descriptor may be another's
        os.close(pidfd)
        return None
    return pidfd
