"""All processes of a launch, wherever they went: found, signalled, and reaped where they are ours.

Kin are the processes that we know already, who is in a session that one of them leads, whoever
bears the launch's mark in its environment, and the descendants of all these. A process that has
left the session and cleared its environment is found only while its parents live; then it is known.

Rule: nobody is signalled by number. A descriptor is taken first, then it is seen whether it is
still that process; the descriptor never becomes another's.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from sidecar.identity import STARTED, Identity, machine, stat
from sidecar.state import MARK

_STATE, _PARENT, _SESSION, _THREADS = 0, 1, 3, 17  # fields of `stat`
FRESH = 1.0  # seconds: no number is given anew within so few
_LARGEST_ENVIRONMENT = 2**20  # bytes that are read of it


@dataclass(frozen=True, slots=True)
class Seen:
    """One process at the moment when it was looked at."""

    who: Identity
    parent: int
    session: int
    dead: bool  # a zombie: it holds nothing but its number


class Kin:
    """Of the launches whose marks begin with `mark`, but for those with the marks `but`. `known`:
    those that are surely of them."""

    def __init__(
        self, mark: str, known: Iterable[Identity] = (), but: Collection[str] = ()
    ) -> None:
        assert mark, "an empty mark would be borne by every engine of this machine"
        self._mark = f"\0{MARK}={mark}".encode()
        self._but = tuple(f"\0{MARK}={other}\0".encode() for other in but)
        self._first = frozenset(known)
        self._known = set(self._first)
        self._strangers: set[str] = set()  # numbers of processes that are not of it
        self._began_anew = -math.inf
        self._not_ours: set[Identity] = set()  # another user's now: no signal of ours reaches them

    def living(self) -> list[Identity]:
        """Those that run now, the oldest first. They are known from now on, also when the parents
        that they were found by are gone."""
        return [seen.who for seen in self._look() if not seen.dead]

    def signal(self, *numbers: int) -> None:
        """To each that runs. The last must wake it, or end it: they are all frozen before, or one
        would have a child meanwhile that is found by nothing once its parent is gone."""
        for who in self._frozen():
            self._send(who, numbers)

    def end(self) -> int:
        """By force; zombies that we inherited are reaped. How many still ran: none, and it is over.
        Who was known from the first is left to whoever started it."""
        look = self._look()
        for seen in look:
            if seen.dead and seen.who not in self._first:
                reap(seen.who.pid)
        living = sum(not seen.dead for seen in look)
        if living:
            self.signal(signal.SIGKILL)
        return living

    def _frozen(self) -> list[Identity]:
        """Until a look finds nobody new: who has a signal to hear has no child before."""
        frozen: dict[Identity, None] = {}
        while new := [who for who in self.living() if who not in frozen]:
            for who in new:
                self._send(who, [signal.SIGSTOP])
                frozen[who] = None
        return list(frozen)

    def _send(self, who: Identity, numbers: Iterable[int]) -> None:
        try:
            descriptor = os.pidfd_open(who.pid)
        except ProcessLookupError:
            return
        try:
            if who.lives:
                for number in numbers:
                    signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            pass
        except PermissionError:
            self._not_ours.add(who)
        finally:
            os.close(descriptor)

    def _look(self) -> list[Seen]:
        found = self._find(self._numbers())
        self._known |= {seen.who for seen in found}
        self._strangers -= {str(seen.who.pid) for seen in found}
        return sorted(found, key=lambda seen: seen.who.started)

    def _numbers(self) -> set[str]:
        """Of the processes to look at. Who was a stranger a moment ago is one: most looks follow
        another at once, and a machine has many processes."""
        now = time.monotonic()
        if now > self._began_anew + FRESH:
            self._strangers, self._began_anew = set(), now
        numbers = every_number() - self._strangers
        self._strangers |= numbers
        return numbers

    def _find(self, numbers: Iterable[str]) -> list[Seen]:
        since = min((who.started for who in self._known), default=0)  # kin are younger
        others = [s for s in look_at(numbers, since) if s.who not in self._not_ours]
        found: list[Seen] = []
        newest = [s for s in others if s.who in self._known or self._is_marked(s.who.pid)]
        while newest:
            found += newest
            there = {s.who for s in found}
            others = [s for s in others if s.who not in there]
            parents = {who.pid for who in there}
            # A number stays a session's as long as anybody is in it.
            ours = parents | {who.pid for who in self._known}
            sessions = {s.session for s in found} & ours
            newest = [s for s in others if s.parent in parents or s.session in sessions]
        return found

    def _is_marked(self, pid: int) -> bool:
        try:
            file = os.open(f"/proc/{pid}/environ", os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return False
        try:
            text = b"\0" + os.read(file, _LARGEST_ENVIRONMENT)
            return self._mark in text and not any(other in text for other in self._but)
        except ProcessLookupError:
            return False
        finally:
            os.close(file)


def every_number() -> set[str]:
    """Of all processes of this machine."""
    return set(filter(str.isdecimal, os.listdir("/proc")))


def look_at(numbers: Iterable[str], since: int = 0) -> Iterator[Seen]:
    """Those of them that started at that tick or later."""
    boot = machine()
    for name in numbers:
        with suppress(ProcessLookupError):
            fields = stat(name)
            if (started := int(fields[STARTED])) >= since:
                # With its first thread gone it looks dead, and is not while it has others.
                dead = fields[_STATE] in (b"Z", b"X") and int(fields[_THREADS]) <= 1
                who = Identity(int(name), started, boot)
                yield Seen(who, int(fields[_PARENT]), int(fields[_SESSION]), dead)


def reap(pid: int) -> None:
    """Only this one: whoever started a process with us waits for it itself."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
