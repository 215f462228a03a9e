"""One launch of an engine, from the spawn of its process to its end, told as facts.

It decides nothing: what a fact means is `machine.py`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Protocol

import httpx

from sidecar import diagnosis, elsewhere, health, obstacles
from sidecar.engines import reports
from sidecar.engines.launch import Launch
from sidecar.environment import inherited
from sidecar.failure import Exit
from sidecar.identity import Identity
from sidecar.looks import Looks
from sidecar.machine import Fact
from sidecar.process import Log, Process
from sidecar.state import MARK

POLL = 0.005  # seconds, while a load is young: half of it is what a switch waits for a poll
POLL_LATER = 0.1
YOUNG = 2.0  # seconds
POLL_LOG_WHEN_READY = 0.1  # an engine that floods its log at 100 MB/s takes 10 MB of disk meanwhile
HEALTH_TIMEOUT = 2.0  # an engine that takes a connection and says nothing is not ready
# A line that comes less than a millisecond after "ready" may be lost in llama-server (3 of 300
# were, sent at once), and it reads no other: after this time the signal follows.
LINE_HEARD_WITHIN = 1.0


class Listener(Protocol):
    """Who hears the facts of one launch."""

    def saw(self, fact: Fact, exit: Exit | None = None) -> None: ...
    def progressed(self, value: float) -> None: ...
    def sign_of_life(self) -> None: ...


class Runner:
    """`log`, `fifo`: the files of this launch."""

    def __init__(
        self, launch: Launch, log: Path, fifo: Path, tell: Listener, http: httpx.AsyncClient
    ) -> None:
        self.launch = launch
        self.process: Process | None = None
        self._log_path = log
        self._log: Log | None = None
        self._fifo = fifo if launch.fifo else None
        self._tell = tell
        self._http = http
        self._group: asyncio.TaskGroup | None = None  # while it lives
        self._tasks: list[asyncio.Task[None]] = []
        self._failure: Exit | None = None  # why there is no process
        self._told_to_go = False
        self._ready = False
        self._is_left = False  # to the next sidecar

    def spawn(self) -> None:
        """What keeps it from starting is told by `run`."""
        env = {**inherited(), **self.launch.env}
        try:
            self._failure = obstacles.of_launch(self.launch, env)
            if self._failure is not None:
                return
            self._log = Log(self._log_path, self.launch.key)
            if self._fifo is not None:
                os.mkfifo(self._fifo, 0o600)
        except OSError as error:
            self._failure = diagnosis.nowhere_to_write(error)
            return
        try:
            self.process = Process.spawn(
                self.launch.argv, env, self._log_path, self._fifo, env[MARK]
            )
        except OSError as error:
            self._failure = diagnosis.could_not_start(self.launch.argv[0], error)

    def adopt(self, process: Process, *, serves: bool) -> None:
        """One that runs already. OSError if its log cannot be read."""
        self.process, self._ready = process, serves
        self._log = Log(self._log_path, self.launch.key, whole=True)

    def tail(self, lines: int) -> tuple[str, ...]:
        """The last lines of the process's output."""
        return self._log.tail(lines) if self._log else ()

    @property
    def identity(self) -> Identity | None:
        """Of its process; None if it could not start."""
        return None if self.process is None else self.process.identity

    @property
    def lives(self) -> bool:
        """At this very moment: whoever listens on its port is no stranger."""
        return self.process is not None and self.process.lives

    def is_deaf(self) -> bool:
        """Whether none of its processes listens any more. A wrapper may have started its server
        anew: from now on it `lives` as long as that one."""
        if self.process is None or self.launch.elsewhere:
            return False
        with contextlib.suppress(OSError):  # it cannot be seen now
            return not self.process.listens(self.launch.port)
        return False

    @property
    def has_ended(self) -> bool:
        return self.process is None or self.process.exited.done()

    @property
    def leader(self) -> int | None:
        """The process that leads the engine's session, while it runs; None where it only stands
        for one elsewhere: what `docker run` takes is not what its container takes."""
        if self.process is None or self.has_ended or self.launch.elsewhere:
            return None
        return self.process.pid

    def stop(self, *, force: bool) -> None:
        self._told_to_go |= not force
        if self.process is None or self.has_ended:
            return
        if force:
            self.process.signal(force=True)
        elif self._group is None:
            return  # `run` begins with it
        elif self.launch.stop_command:
            self._begin(self._run_stop_command())
        elif self.launch.stop_line and self._ready:
            self._begin(self._say_stop_line())
        else:
            self.process.signal(force=False)

    def leave(self) -> None:
        """To the next sidecar: our end is not the engine's."""
        self._is_left = True

    async def run(self) -> None:
        """Ends when the process has ended and `Fact.EXITED` has been told."""
        try:
            exit = self._failure or await self._live()
        finally:
            if self._log is not None:
                self._log.close()
            if self._fifo is not None and not self._is_left:
                self._fifo.unlink(missing_ok=True)
        self._tell.saw(Fact.EXITED, exit)

    async def _live(self) -> Exit:
        assert self.process is not None
        try:
            async with asyncio.TaskGroup() as self._group:
                self._begin(self._follow_log())
                self._begin(self._tell_when_headless())
                if not self.launch.reports:
                    self._begin(self._poll_health())
                if self._told_to_go:  # before anybody followed it
                    self.stop(force=False)
                # Shielded: a cancelled future would pass for a process that has ended.
                code = await asyncio.shield(self.process.exited)
                for task in self._tasks:
                    task.cancel()
        finally:
            if not self._is_left:  # nothing of ours outlives a failure in here
                self.process.signal(force=True)
        return diagnosis.diagnose(code, self.tail(diagnosis.LINES_TOLD))

    async def _tell_when_headless(self) -> None:
        assert self.process is not None
        code = await asyncio.shield(self.process.headless)
        self._tell.saw(Fact.HEADLESS, diagnosis.diagnose(code, self.tail(diagnosis.LINES_TOLD)))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._group is not None
        self._tasks.append(self._group.create_task(work))

    async def _run_stop_command(self) -> None:
        assert self.process is not None
        await elsewhere.stop(self.launch.stop_command)
        self.process.signal(force=False)

    async def _say_stop_line(self) -> None:
        assert self.process is not None
        assert self._fifo is not None
        with contextlib.suppress(OSError):
            self.process.say(self.launch.stop_line, self._fifo)
            await asyncio.sleep(LINE_HEARD_WITHIN)
        self.process.signal(force=False)

    async def _follow_log(self) -> None:
        assert self._log is not None
        while True:
            lines = self._log.poll()
            if self._log.moved:  # also a bar that is drawn in one line, as vLLM's
                self._tell.sign_of_life()
            if self.launch.reports:
                for line in lines:
                    self._read_report(line)
            await asyncio.sleep(POLL_LOG_WHEN_READY if self._ready else POLL)

    def _read_report(self, line: str) -> None:
        match reports.parse(line):
            case reports.Loading(value) if not self._ready:
                self._tell.saw(Fact.ALIVE)
                self._tell.progressed(value)
            case reports.Ready() if not self._ready:
                self._ready = True
                if self._told_to_go:  # it caught our signal, and waits for its line now
                    self.stop(force=False)
                self._tell.saw(Fact.HEALTHY)

    async def _poll_health(self) -> None:
        """The key goes to the port only once it is known to be our engine's."""
        assert self.process is not None
        began, ours = asyncio.get_running_loop().time(), False
        looks = Looks(f"the port of process {self.process.pid}")
        while not self._ready:
            with looks.one():
                ours = ours or health.listens(self.launch, self.process)
            asked = ours and self.process.lives
            healthy = await health.says(self.launch, self._http, HEALTH_TIMEOUT) if asked else None
            if healthy is not None:
                self._tell.saw(Fact.ALIVE)
                if healthy:
                    self._ready = True
                    self._tell.saw(Fact.HEALTHY)
            await asyncio.sleep(pause(began))


def pause(began: float) -> float:
    """Seconds until the next poll of a load that began then."""
    return POLL if asyncio.get_running_loop().time() - began < YOUNG else POLL_LATER
