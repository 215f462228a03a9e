"""The sidecar's side of `guard.py`: there is always one, and it is told what it must know.

Rule: nothing here ends an engine. The guard does, once nobody is there to hold this end.
"""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
from pathlib import Path

import structlog

from sidecar import guard
from sidecar.environment import inherited
from sidecar.guard import Orders
from sidecar.state import StateFolder

PAUSE = 1.0  # seconds between two looks at whether it lives

log = structlog.get_logger()


class Watchman:
    """`start` before there is an engine, `run` for as long as the sidecar lives; `dismiss` once
    there is nothing to guard any more. Who is not dismissed acts when we are gone."""

    def __init__(self, folder: StateFolder, grace: float, patience: float) -> None:
        """`grace`: seconds for which a sidecar may be away; `patience`: for a polite end."""
        self._folder = folder.path
        self._orders = Orders(folder.marks, grace, patience)
        self._guard: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """The first one: `run` sees to those that follow it."""
        if self._orders.grace == math.inf:  # `never`: then nobody may end them
            guard.stand(self._folder)
            return
        try:
            self._guard = self._start()
        except OSError as error:
            log.warning("there is no guard", error=str(error))

    async def run(self) -> None:
        """Until cancelled."""
        while self._orders.grace < math.inf:
            await asyncio.sleep(PAUSE)
            if self._guard is None or self._guard.poll() is not None:
                log.warning("there is no guard any more: another one is started")
                self.start()

    def dismiss(self) -> None:
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        """In a session of its own: a terminal's Ctrl-C is for the sidecar."""
        said = os.open(
            self._folder / "logs" / "guard.log",
            os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC,
            0o600,
        )
        program = Path(guard.__file__)
        try:
            started = subprocess.Popen(
                [sys.executable, "-I", str(program), str(self._folder)],  # -I: nobody else's code
                env=inherited(),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
                bufsize=0,
            )
        finally:
            os.close(said)
        assert started.stdin is not None
        started.stdin.write(self._orders.line())
        return started
