"""Which processes there are, as /proc shows them and as the engines have noted it themselves."""

import json
import os
import signal
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil


@dataclass
class Notes:
    """The journal of a model's engines, read as it grows: which were started, and what became of
    them."""

    path: Path
    events: defaultdict[int, set[str]] = field(default_factory=lambda: defaultdict(set))  # by pid
    _read: int = 0

    def look(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as notes:
            notes.seek(self._read)
            *lines, _ = notes.read().split(b"\n")  # the last one may be half written
            self._read += sum(len(line) + 1 for line in lines)
        for line in lines:
            said = json.loads(line)
            if said["event"] in ("started", "ready", "sigterm", "line"):
                self.events[said["pid"]].add(said["event"])


class Engines:
    """Those of one box."""

    def __init__(self, journals: dict[str, Path]) -> None:
        self._notes = {model: Notes(path) for model, path in journals.items()}

    def living(self) -> dict[str, list[int]]:
        """By model. A zombie lives no more."""
        return {model: list(self._alive(notes)) for model, notes in self._notes.items()}

    def _alive(self, notes: Notes) -> Iterator[int]:
        notes.look()
        for pid in list(notes.events):
            if str(notes.path).encode() in cmdline(pid):  # its number may be another's by now
                yield pid
            else:
                del notes.events[pid]

    def noted(self, model: str, pid: int) -> set[str]:
        """What its engine has noted; nothing once it is gone."""
        self._notes[model].look()
        return set(self._notes[model].events.get(pid, ()))


def cmdline(pid: int) -> bytes:
    """Empty for a zombie, and where there is no such process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def frozen(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(") ")[2].startswith("T")


def children(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children()
    return []


def zombies(pid: int) -> list[int]:
    """Among its children."""
    found = []
    for child in children(pid):
        with suppress(psutil.NoSuchProcess):
            if child.status() == psutil.STATUS_ZOMBIE:
                found.append(child.pid)
    return found


def memory(pid: int) -> int:
    """Bytes: anonymous and swapped out."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    sizes = dict(line.split(":", 1) for line in lines)
    return sum(int(sizes[name].split()[0]) * 1024 for name in ("RssAnon", "VmSwap"))


def files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))
