"""One OS process of an engine: spawn, signal its group, see it end, read what it says.

The process leads a session and a group of its own. Its output goes to a file, not to a pipe: an
engine whose reader dies would die with its next write, and one whose pipe nobody reads blocks.
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

LOG_LIMIT = 8 * 2**20  # bytes of the file; beyond, it is cut
READ_AT_ONCE = 2**20  # bytes
LINES_KEPT = 500  # in memory
LINE_LIMIT = 2000  # characters of one line

# How many files we may have open by default. We take more for our connections; an engine gets what
# it would have without us, for some prepare for each file that they may have.
FILES = resource.getrlimit(resource.RLIMIT_NOFILE)


class Log:
    """The file that a process writes to, read as it grows; its last lines stay in memory.

    `secret` is taken out of them: some servers print their settings, keys too, when they start.
    """

    def __init__(self, path: Path, secret: str | None = None) -> None:
        self.path = path
        self._secret = secret
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._new: deque[str] = deque(maxlen=LINES_KEPT)  # that nobody was handed yet
        self._rest = b""
        self.moved = False  # whether anything at all had come at the last poll
        self._came = False
        self._closed = False
        self._read = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._at = os.lseek(self._read, 0, os.SEEK_END)

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
        if self._closed:
            return
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
    """A running process. `exited` is done with its exit code, negative for a signal."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self.pid = popen.pid
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._popen = popen
        try:
            self._pidfd = os.pidfd_open(popen.pid)
        except OSError:  # no descriptor left: what we could not watch must not run
            popen.kill()
            popen.wait()
            raise
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it may be another user's
            resource.prlimit(popen.pid, resource.RLIMIT_NOFILE, FILES)
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)

    @classmethod
    def spawn(
        cls, argv: Sequence[str], env: Mapping[str, str], log: Path, stdin: Path | None
    ) -> Process:
        """`stdin`: a FIFO that the process itself holds open for reading and writing, so that it
        never sees its end and outlives us; None: nothing to read. OSError if it cannot start."""
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
        return cls(popen)

    def signal(self, *, force: bool) -> None:
        """Tell the whole group to go. A frozen process must be woken to hear the polite word."""
        self._send(signal.SIGKILL if force else signal.SIGTERM, signal.SIGCONT)

    def say(self, line: bytes, fifo: Path) -> None:
        """Into its stdin, which a frozen process must be woken to read. OSError if it cannot be
        written at once: nobody reads, or nobody has read for long."""
        write_to = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(write_to, line)
        finally:
            os.close(write_to)
        self._send(signal.SIGCONT)

    def _send(self, *signals: int) -> None:
        """To the whole group. Safe until `_reap`: a process that was not waited for keeps its
        number."""
        if self.exited.done():
            return
        with contextlib.suppress(ProcessLookupError):
            for number in signals:
                os.killpg(self.pid, number)

    def _reap(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        # Children that the leader left behind; those that are another user's now are not ours.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.exited.set_result(self._popen.wait())
