"""Ends what a sidecar that was killed has left behind, if no other comes: python guard.py FOLDER

Its stdin is a pipe from the sidecar: one line of what it must know, then nothing until the sidecar
is gone. Then it waits, and if nobody holds the state folder by then, it ends all engines of it.

Rule: it is small, sleeps, and imports nothing but the standard library until it has to act. It
holds no lock: a sidecar that comes while it acts is the master from then on.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from sidecar.kin import Kin
    from sidecar.launches import Launched

LOOK_FOR_NEXT = 0.2  # seconds between two looks for the next sidecar
LOOK_AGAIN = 0.02  # seconds
LOOK_RARELY = 2.0  # seconds, at what does not end though it is killed
SLOWER = 1.1  # each time: a tenth of what it has taken already


class Orders(NamedTuple):
    """The line that it is told by. No argument: `ps` would show the marks to everyone."""

    sidecar: int  # whose it is
    marks: str  # how those of the folder's launches begin
    grace: float  # seconds for which a sidecar may be away
    patience: float  # seconds that engines have after the polite signal

    def line(self) -> bytes:
        return json.dumps(self).encode() + b"\n"

    @classmethod
    def heard(cls, line: bytes) -> Self:
        return cls(*json.loads(line))


def main() -> None:
    folder = Path(sys.argv[1])
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):  # the sidecar was gone before it had an engine
        return
    orders = Orders.heard(line)
    sys.stdin.buffer.read()  # until its other end is closed
    if nobody_comes(folder, orders, time.monotonic() + orders.grace):
        end_all(folder, orders)


def nobody_comes(folder: Path, orders: Orders, until: float) -> bool:
    """The sidecar that is gone may hold its lock for a moment more: it closes its files one after
    the other, and the pipe may be the first."""
    while (holder := holder_of(folder)) is None or holder == orders.sidecar:
        left = until - time.monotonic()
        if holder is None and left <= 0:
            return True
        time.sleep(min(max(left, LOOK_AGAIN), LOOK_FOR_NEXT))
    return False


def holder_of(folder: Path) -> int | None:
    """The sidecar that works on it, if there is one. To look takes the lock for a moment, which
    `StateFolder` knows."""
    try:
        lock = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # the whole folder was thrown away: nobody works on it
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.pread(lock, 32, 0) or -1)  # -1: it has not said yet who it is
    finally:
        os.close(lock)
    return None


def end_all(folder: Path, orders: Orders) -> None:
    """Politely, then by force, until nobody is left."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from sidecar.kin import Kin  # as late as this: until here it was small
    from sidecar.launches import Launches

    launched = list(Launches(folder).left().values())
    kin = Kin(orders.marks, [one.process for one in launched])
    forced_at = time.monotonic() + orders.patience
    commands = list(_stop_elsewhere(launched))
    kin.signal(signal.SIGTERM, signal.SIGCONT)
    pause = LOOK_AGAIN
    while holder_of(folder) is None and _are_left(kin, force=time.monotonic() >= forced_at):
        time.sleep(pause)
        if time.monotonic() >= forced_at:
            pause = min(SLOWER * pause, LOOK_RARELY)
    for command in commands:
        _await(command, until=forced_at)


def _stop_elsewhere(launched: list[Launched]) -> list[subprocess.Popen[bytes]]:
    """Engines whose process here only stands for one elsewhere have a command that stops them."""
    none = subprocess.DEVNULL
    started = []
    for command in (one.stop_command for one in launched if one.stop_command):
        try:
            started.append(subprocess.Popen(command, stdin=none, stdout=none, stderr=none))
        except OSError as error:
            sys.stderr.write(f"stop_command: {error}\n")
    return started


def _await(command: subprocess.Popen[bytes], until: float) -> None:
    """One that hangs is not waited for."""
    try:
        command.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        command.kill()
        command.wait()


def _are_left(kin: Kin, *, force: bool) -> bool:
    return kin.end() > 0 if force else bool(kin.living())


if __name__ == "__main__":
    main()
