"""The state folder: what this sidecar keeps on disk, and the lock that makes it the only one."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Collection
from pathlib import Path
from urllib.parse import quote


class Held(Exception):
    """Another sidecar works on this folder."""


TRIES, PAUSE = 5, 0.01  # seconds between two

MARK = "SWAPYARD_LAUNCH"  # in the environment of an engine, and so of all its descendants


class StateFolder:
    """`logs/` and `fifos/` below one folder that only its owner may read. `close` unlocks it."""

    def __init__(self, path: Path) -> None:
        """Held, with the holder's pid, if another process has it; OSError if it cannot be made."""
        try:
            for folder in (path, path / "logs", path / "fifos"):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise OSError(f"state_dir: {path} cannot be used: {error.strerror}") from None
        self.path = path
        if not _locked(self._lock):
            holder = os.pread(self._lock, 32, 0).decode().strip()
            os.close(self._lock)
            raise Held(f"{path} is in use by the sidecar with pid {holder}") from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)

        self._secret = _secret(path / "secret")

    @property
    def trouble(self) -> str | None:
        """Whether it is still the folder that we have locked: in another one's place anybody may
        start a second sidecar."""
        try:
            if os.path.samestat(os.stat(self.path / "lock"), os.fstat(self._lock)):
                return None
        except OSError:
            pass
        return f"state_dir: {self.path} was removed or replaced: start this sidecar again"

    def key(self, launch: str) -> str:
        """Of an engine. It is kept nowhere: whoever has the secret makes it again."""
        return self._sign(f"key {launch}")

    def mark(self, launch: str) -> str:
        """What stands as MARK in the environment of that launch."""
        return f"{self.marks}{launch}"

    @property
    def marks(self) -> str:
        """How the marks of this folder's launches begin, and those of no other folder's."""
        return f"{self._sign('marks')[:16]}."

    def _sign(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()

    def log(self, model: str, launch: str) -> Path:
        """Of one launch; those of the model's other launches go."""
        name = quote(model, safe="")
        path = self.path / "logs" / f"{name},{launch}.log"  # no model's id has a comma
        with contextlib.suppress(OSError):  # an old log that stays is no reason not to start
            for old in (self.path / "logs").glob(f"{name},*.log"):
                if old != path:
                    old.unlink(missing_ok=True)
        return path

    def keep_fifos(self, launches: Collection[str]) -> None:
        """Of these launches; the others are of engines that are gone."""
        for fifo in (self.path / "fifos").iterdir():
            if fifo.name not in launches:
                with contextlib.suppress(OSError):  # one that stays is in nobody's way
                    fifo.unlink()

    def fifo(self, launch: str) -> Path:
        return self.path / "fifos" / launch

    def close(self) -> None:
        os.close(self._lock)


def _locked(file: int) -> bool:
    """Not so while another holds it for longer than the moment in which a guard looks."""
    for _ in range(TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(PAUSE)
    return False


def _secret(path: Path) -> bytes:
    """The folder's own, made with it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "r+b") as page:
        os.fchmod(file, 0o600)  # one that was put there may be anybody's
        known = page.read()
        if len(known) != 32:
            known = secrets.token_bytes(32)
            page.seek(0)
            page.truncate()
            page.write(known)
        return known
