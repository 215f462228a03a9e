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
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from sidecar.kin import Kin
    from sidecar.launches import Launched

GUARD = "guard"  # in the folder: who guards it
LOOK_FOR_NEXT = 0.2  # seconds between two looks for the next sidecar
LOOK_AGAIN = 0.02  # seconds
LOOK_RARELY = 2.0  # seconds, at what does not end though it is killed
SLOWER = 1.1  # each time: a tenth of what it has taken already


class Orders(NamedTuple):
    """The line that it is told by. No argument: `ps` would show the marks to everyone."""

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
    if not line.endswith(b"\n"):  # the sidecar was gone before it could say what is to be done
        return
    orders, us = Orders.heard(line), stand(folder)
    sys.stdin.buffer.read()  # until its other end is closed
    if nobody_comes(folder, us, orders.grace):
        end_all(folder, orders)


def stand(folder: Path) -> str:
    """From now on we guard, and whoever did before is relieved, not sooner: the next sidecar may
    die before it has a guard of its own. Returns who we are."""
    us = f"{os.getpid()} {time.monotonic_ns()}"
    with suppress(OSError):  # then the one before us stays, too
        (folder / GUARD).write_text(us)
    return us


def nobody_comes(folder: Path, us: str, grace: float) -> bool:
    """Whether nobody has held the folder for so long, and no other guards it."""
    until = time.monotonic() + grace
    while not is_relieved(folder, us):
        now = time.monotonic()
        if is_held(folder):  # by one that may die, too
            until = now + grace
        if now >= until:
            return True
        time.sleep(min(until - now, LOOK_FOR_NEXT))
    return False


def is_relieved(folder: Path, us: str) -> bool:
    try:
        return (folder / GUARD).read_text() not in ("", us)
    except OSError:
        return False


def is_held(folder: Path) -> bool:
    """Whether a sidecar works on it. To look takes the lock for a moment, which `StateFolder`
    knows."""
    try:
        lock = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # the whole folder was thrown away: nobody works on it
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def end_all(folder: Path, orders: Orders) -> None:
    """Politely, then by force, until nobody is left."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from sidecar.kin import Kin  # as late as this: until here it was small
    from sidecar.launches import Launches

    launched = list(Launches(folder).left().values())
    kin = Kin(orders.marks, [one.process for one in launched])
    sys.stderr.write(
        f"no sidecar for {orders.grace:g} s: engines that are ended: {len(launched)}\n"
    )
    forced_at = time.monotonic() + orders.patience
    commands = list(_stop_elsewhere(launched))
    kin.signal(signal.SIGTERM, signal.SIGCONT)
    pause = LOOK_AGAIN
    while not is_held(folder) and _are_left(kin, force=time.monotonic() >= forced_at):
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
