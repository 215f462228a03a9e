"""Processes that lose their parents: they become the sidecar's children, and are reaped when dead.

Engines leave such processes behind, and in a container also whoever runs a command in it.

Rule: only zombies that nobody waits for are reaped. Whoever started a process with us waits for it
itself, and at once: one that is still a zombie at the next look was started by nobody of ours.
"""

from __future__ import annotations

import asyncio
import ctypes
import os

from sidecar.identity import Identity
from sidecar.kin import every_number, look_at, reap
from sidecar.looks import Looks

LOOK_AGAIN = 0.5  # seconds
_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


def inherit() -> None:
    """From now on they are ours, and not the first process's of this machine or container."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        error = ctypes.get_errno()
        raise OSError(error, f"cannot become the parent of orphans: {os.strerror(error)}")


async def reap_for_ever() -> None:
    before, looks = set[Identity](), Looks("strays")
    while True:
        await asyncio.sleep(LOOK_AGAIN)
        with looks.one():
            before = reap_those_of(before)


def reap_those_of(before: set[Identity]) -> set[Identity]:
    """Those who were zombies then and are now. Who is a zombie now."""
    now = _zombies() if _are_any() else set()
    for stray in now & before:
        reap(stray.pid)
    return now - before


def _are_any() -> bool:
    """One call of the kernel, which leaves them as they are."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return found is not None


def _zombies() -> set[Identity]:
    us = os.getpid()
    return {seen.who for seen in look_at(every_number()) if seen.dead and seen.parent == us}
