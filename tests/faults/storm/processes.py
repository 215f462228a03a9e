"""Which processes there are, as /proc shows them and as the engines have noted it themselves."""

import json
import os
import signal
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.faults.storm.box_history import Living


@dataclass
class Notes:
    """The journal of a model's engines, read as it grows: which were started, what became of them,
    and which children they had. `events`: by pid, and when each was first noted."""

    path: Path
    events: defaultdict[int, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    children: set[int] = field(default_factory=set)
    _read: int = 0

    def look(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as notes:
            notes.seek(self._read)
            *lines, _ = notes.read().split(b"\n")  # the last one may be half written
            self._read += sum(len(line) + 1 for line in lines)
        for line in lines:
            self._hear(json.loads(line))

    def _hear(self, said: dict[str, Any]) -> None:
        if said["event"] == "child":
            self.children.add(said["pid"])
        elif said["event"] in ("started", "ready", "sigterm", "line"):
            self.events[said["pid"]].setdefault(said["event"], said["at"])


class Engines:
    """Those of one box."""

    def __init__(self, journals: dict[str, Path]) -> None:
        self._notes = {model: Notes(path) for model, path in journals.items()}

    def living(self) -> dict[str, Living]:
        """By model. A zombie lives no more."""
        return {model: _alive(notes) for model, notes in self._notes.items()}

    def at_once(self) -> dict[str, Living]:
        """By model, those that lived at one and the same moment: whoever is there before and after
        a look at all was there between the two."""
        before, after = self.living(), self.living()
        return {
            model: Living(*(sorted({*a} & {*b}) for a, b in zip(pids, after[model], strict=True)))
            for model, pids in before.items()
        }

    def noted(self, model: str, pid: int) -> dict[str, float]:
        """What its engine has noted, and when; nothing once it is gone."""
        self._notes[model].look()
        return dict(self._notes[model].events.get(pid, {}))


def _alive(notes: Notes) -> Living:
    notes.look()
    known = {*notes.events, *notes.children}
    # Its number may be another's by now.
    for pid in [pid for pid in known if str(notes.path).encode() not in cmdline(pid)]:
        notes.events.pop(pid, None)
        notes.children.discard(pid)
    return Living(sorted(notes.events), sorted(notes.children))


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
