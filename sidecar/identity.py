"""Which process a number stands for: Linux gives the numbers of processes out anew.

Rule: a process that we are not the parent of is never signalled by its number alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

_STARTED = 21  # field 22 of proc(5)'s stat, counted from 0


@dataclass(frozen=True, slots=True)
class Identity:
    """One process of one boot of one machine, for ever."""

    pid: int
    started: int  # clock ticks after the machine's boot
    machine: str  # the id of that boot

    @classmethod
    def of(cls, pid: int) -> Self:
        """Of the process that has this number now. ProcessLookupError if there is none."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            raise ProcessLookupError(pid) from None
        # The second field is the program's name in brackets, and may itself hold blanks and ")".
        after_name = stat.rpartition(b") ")[2].split()
        return cls(pid, int(after_name[_STARTED - 2]), machine())

    @property
    def lives(self) -> bool:
        """Whether it is still there, if only as a zombie."""
        try:
            return Identity.of(self.pid) == self
        except ProcessLookupError:
            return False


@cache
def machine() -> str:
    """The id of this boot: a process that ran before it runs no more."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
