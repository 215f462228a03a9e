"""The processes of each engine: an engine's process leads a session of its own, and its children
stay in it.

Rule: this file reads and decides nothing. A process that ends meanwhile is left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_PAGE = os.sysconf("SC_PAGESIZE")


def of(leaders: frozenset[int]) -> dict[int, list[int]]:
    """The pids of each leader's session, from one walk of /proc."""
    sessions: dict[int, list[int]] = {leader: [] for leader in leaders}
    if not leaders:
        return sessions
    for name in os.listdir("/proc"):
        with suppress(ValueError, OSError):
            pid = int(name)
            if (leader := os.getsid(pid)) in sessions:
                sessions[leader].append(pid)
    return sessions


def resident(pids: Iterable[int]) -> dict[int, int]:
    """The bytes of each process that are in the host's memory now."""
    sizes = {}
    for pid in pids:
        with suppress(OSError):
            sizes[pid] = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    return sizes
