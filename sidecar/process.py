"""One OS process of an engine: spawn, signal its group, see it end, read what it says.

The process leads a session and a group of its own. Its output goes to a file, not to a pipe: an
engine whose reader dies would die with its next write, and one whose pipe nobody reads blocks.
Spawn only from the thread of the event loop: what Linux ties to a parent, it ties to its thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

LOG_LIMIT = 8 * 2**20  # bytes of the file; beyond, it is cut
LINES_KEPT = 500  # in memory
LINE_LIMIT = 2000  # characters of one line


class Log:
    """The file that a process writes to, read as it grows; its last lines stay in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._rest = b""
        self._closed = False
        self._read = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._at = os.lseek(self._read, 0, os.SEEK_END)

    def poll(self) -> list[str]:
        """The lines that came since the last call."""
        new: list[str] = []
        while chunk := os.pread(self._read, 65536, self._at):
            self._at += len(chunk)
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            new += [self._text(line) for line in whole]
            self._rest = self._rest[: 4 * LINE_LIMIT]
        if self._at > LOG_LIMIT:
            os.ftruncate(self._read, 0)  # safe: the writer's descriptor appends
            self._at = 0
        self.lines.extend(new)
        return new

    def tail(self, count: int) -> tuple[str, ...]:
        """The last lines, an unfinished one among them."""
        if not self._closed:
            self.poll()
        lines = [*self.lines, self._text(self._rest)] if self._rest else list(self.lines)
        return tuple(lines[-count:])

    def close(self) -> None:
        """Nothing more is read; what was read last stays."""
        self.poll()
        self._closed = True
        os.close(self._read)

    @staticmethod
    def _text(line: bytes) -> str:
        return line.decode("utf-8", "replace").rstrip("\r")[:LINE_LIMIT]


class Process:
    """A running process. `exited` is done with its exit code, negative for a signal."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self.pid = popen.pid
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._popen = popen
        self._pidfd = os.pidfd_open(popen.pid)
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
        if self.exited.done():
            return
        # Safe until `_reap`: a process that was not waited for keeps its number.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL if force else signal.SIGTERM)
            os.killpg(self.pid, signal.SIGCONT)

    def _reap(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        with contextlib.suppress(ProcessLookupError):  # children that the leader left behind
            os.killpg(self.pid, signal.SIGKILL)
        self.exited.set_result(self._popen.wait())
