"""One connection's deadlines: of what its client has to say, and of what it has to take.

One timer for both. It is armed for the nearer one, and when that has moved on meanwhile, again: so
a request that comes in one piece, and whose answer is taken, arms none.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from shared.patience import Backlog, Limits

LOOKS = 4  # at a client that takes nothing, until it is dropped
EARLY = 0.001  # seconds: a timer of uvloop counts whole milliseconds, and may be half of one early


class Vigil:
    __slots__ = (
        "_backlog",
        "_limits",
        "_look",
        "_loop",
        "_overdue",
        "_stalled",
        "_timer",
        "_unsent",
        "_wakes",
        "deadline",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
        overdue: Callable[[float], None],
        unsent: Callable[[], int],
        stalled: Callable[[], None],
    ) -> None:
        """`overdue` is told when the client is late with what it has to say, and `stalled` when it
        has taken nothing of the `unsent` bytes."""
        self._loop = loop
        self._limits = limits
        self._overdue = overdue
        self._unsent = unsent
        self._stalled = stalled
        self._timer: asyncio.TimerHandle | None = None
        self._wakes = math.inf
        self.deadline = math.inf  # infinity: it has nothing to say
        self._look = math.inf
        self._backlog: Backlog | None = None

    def wait_for(self, seconds: float) -> None:
        self.deadline = self._loop.time() + seconds
        self._wake_at(self.deadline)

    def see_it_taken(self) -> None:
        now = self._loop.time()
        self._backlog = Backlog(now, self._unsent())
        self._look = now + self._limits.stall / LOOKS
        self._wake_at(self._look)

    def it_is_taken(self) -> None:
        self._look, self._backlog = math.inf, None

    def end(self) -> None:
        self.deadline = self._look = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake_at(self, when: float) -> None:
        if when < self._wakes:
            if self._timer is not None:
                self._timer.cancel()
            self._wakes = when
            self._timer = self._loop.call_at(when, self._wake)

    def _wake(self) -> None:
        self._timer, self._wakes = None, math.inf
        now = self._loop.time() + EARLY
        if now >= self._look:
            self._look_again(now)
        if now >= self.deadline:
            self.deadline = math.inf
            self._overdue(now)
        if (nearest := min(self.deadline, self._look)) < math.inf:
            self._wake_at(nearest)

    def _look_again(self, now: float) -> None:
        assert self._backlog is not None
        if self._backlog.is_stalled(now, self._unsent(), self._limits):
            self.it_is_taken()  # or never will be
            self._stalled()
        else:
            self._look = now + self._limits.stall / LOOKS
