"""Is a program well: does it decide what is due, and does it still look at what it must see?

Rule 1: what makes `/healthz` red is decided here and nowhere else.
Rule 2: this file does no I/O, reads no clock and never awaits; times are seconds of whatever clock
the caller has.
"""

from __future__ import annotations

import math
from collections import deque

OVERDUE = 3.0  # seconds that a decision may come late: a loop that turns is never that slow
REMEMBERED = 60.0  # seconds: what is scraped once a minute misses no standstill


class Pulse:
    """`trouble` is None while all is well."""

    def __init__(self) -> None:
        self._failures: dict[str, str] = {}  # how the last decision about each thing failed
        self._seen: dict[str, tuple[float, float]] = {}  # when each thing was last, and how long
        self._awake_since = -math.inf

    def woke(self, now: float) -> None:
        """The program stood still, or was frozen: it could neither decide nor look meanwhile."""
        self._awake_since = now

    def decided(self, about: str) -> None:
        self._failures.pop(about, None)

    def failed(self, about: str, why: str) -> bool:
        """Whether that is news."""
        before, self._failures[about] = self._failures.get(about), why
        return why != before

    def saw(self, what: str, now: float, again_within: float) -> None:
        """A task has looked at that, and looks again after so many seconds at most."""
        self._seen[what] = (now, again_within)

    def trouble(self, due: float, now: float) -> str | None:
        """`due`: the deadline of the program's core."""
        for about, why in self._failures.items():
            return f"{about}: the last decision has failed, {why}"
        if now > max(due, self._awake_since) + OVERDUE:
            return f"a decision is overdue for {now - due:.0f} s"
        for what, (at, again_within) in self._seen.items():
            if now > max(at, self._awake_since) + again_within:
                return f"{what}: nothing for {now - at:.0f} s"
        return None


class Lags:
    """How late a loop was, lately."""

    def __init__(self) -> None:
        self._late: deque[tuple[float, float]] = deque()  # when, and how much; each below the last

    def add(self, lag: float, now: float) -> None:
        while self._late and self._late[-1][1] <= lag:
            self._late.pop()
        self._late.append((now, lag))
        self._forget(now)

    def worst(self, now: float) -> float:
        """Seconds, of the last minute."""
        self._forget(now)
        return self._late[0][1] if self._late else 0.0

    def _forget(self, now: float) -> None:
        while self._late and self._late[0][0] < now - REMEMBERED:
            self._late.popleft()
