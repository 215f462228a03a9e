"""Which process a number stands for: Linux gives the numbers of processes out anew.

Rule: a process that we are not the parent of is never signalled by its number alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

# Fields 9 and 22 of proc(5)'s stat, counted from its third as 0.
_FLAGS, STARTED = 6, 19
_EXITING = 0x4  # PF_EXITING of <linux/sched.h>


@dataclass(frozen=True, slots=True)
class Identity:
    """One process of one boot of one machine, for ever."""

    pid: int
    started: int  # clock ticks after the machine's boot
    machine: str  # the id of that boot

    @classmethod
    def of(cls, pid: int) -> Self:
        """Of the process that has this number now. ProcessLookupError if there is none."""
        return cls(pid, int(stat(pid)[STARTED]), machine())

    @property
    def lives(self) -> bool:
        """Whether it is still there, if only as a zombie."""
        try:
            return Identity.of(self.pid) == self
        except ProcessLookupError:
            return False

    @property
    def is_whole(self) -> bool:
        """Whether it has not begun to end: then all is open that it has opened. A process closes
        its files before anybody is told of its end; where a GPU's driver is slow, long before."""
        try:
            fields = stat(self.pid)
        except OSError:
            return False
        return int(fields[STARTED]) == self.started and not int(fields[_FLAGS]) & _EXITING


def stat(pid: int | str) -> list[bytes]:
    """The fields of proc(5)'s stat from the third on. ProcessLookupError if there is no process, or
    one that is hidden from us (`hidepid`), as only those of other users are."""
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        raise ProcessLookupError(pid) from None
    try:
        line = os.read(file, 4096)  # longer than 52 numbers and a name of 15 bytes
    finally:
        os.close(file)
    # The second field is the program's name in brackets, and may itself hold blanks and ")".
    return line.rpartition(b") ")[2].split()


@cache
def machine() -> str:
    """The id of this boot: a process that ran before it runs no more."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
