"""Policies for one box that are known, from llama-swap's to variants of ours.

When a busy engine lets another have its turn: never (join, exhaustive), for who came earlier
(fifo), at once (gated), after some seconds (patience), when those who wait have together waited
as long as the switch takes (sum), at the end of its visit (visit).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.sim.onebox import Engine, Line

Choice = Callable[[Line, float], float]

GRACE = 1.0  # seconds, at most
GRACE_SHARE = 0.25  # of the switch
RETURNS = 0.7  # how often it must have come back in time
WEIGHT = 0.2  # of the newest, in what is learned
BATCH = 8.0  # switch costs


def oldest(line: Line, now: float) -> float:
    return now - line.oldest


def count(line: Line, now: float) -> float:
    return len(line.waiting) / max(line.program.load, 0.1)


def worth(line: Line, now: float) -> float:
    """What was waited, for each second of the load."""
    return line.waited(now) / max(line.program.load, 0.1)


def switch_cost(engine: Engine, own: Line, wanted: Line) -> float:
    drain = own.service if engine.in_flight else 0.0
    return wanted.program.load + engine.program.stop + drain


@dataclass
class Grace:
    """An engine that mostly hears from its client again soon is kept that long."""

    _p: dict[str, float] = field(default_factory=dict)
    _idle_at: dict[str, float] = field(default_factory=dict)

    def came(self, line: Line, now: float) -> None:
        if (idle_at := self._idle_at.pop(line.model, None)) is not None:
            in_time = now - idle_at <= self._longest(line.program.load, line.program.stop)
            p = self._p.get(line.model, 0.0)
            self._p[line.model] = (1 - WEIGHT) * p + WEIGHT * in_time

    def idle(self, engine: Engine, now: float) -> None:
        self._idle_at[engine.model] = now

    def until(self, engine: Engine, wanted: Line) -> float:
        if self._p.get(engine.model, 0.0) <= RETURNS:
            return -math.inf
        return engine.last_used + self._longest(wanted.program.load, engine.program.stop)

    @staticmethod
    def _longest(load: float, stop: float) -> float:
        return min(GRACE, GRACE_SHARE * (load + stop))


@dataclass
class Rule:
    """Idle engines leave at once, busy ones never; who is next, `choice` says."""

    choice: Choice = oldest
    grace: Grace | None = None

    def urgency(self, line: Line, now: float) -> float:
        return self.choice(line, now)

    def may_leave_at(self, engine: Engine, own: Line, wanted: Line, now: float) -> float:
        if engine.in_flight or own.waiting:
            return self.busy_until(engine, own, wanted, now)
        if self.grace is None:
            return now
        # Never longer than if it were busy.
        latest = self.busy_until(engine, own, wanted, now)
        return max(now, min(self.grace.until(engine, wanted), latest))

    def busy_until(self, engine: Engine, own: Line, wanted: Line, now: float) -> float:
        return math.inf

    def came(self, line: Line, engine: Engine | None, now: float) -> None:
        if self.grace is not None:
            self.grace.came(line, now)

    def idle(self, engine: Engine, now: float) -> None:
        if self.grace is not None:
            self.grace.idle(engine, now)


class Fifo(Rule):
    def busy_until(self, engine: Engine, own: Line, wanted: Line, now: float) -> float:
        is_earlier = bool(own.waiting) and own.oldest <= wanted.oldest
        return math.inf if is_earlier else now


class Gated(Rule):
    def busy_until(self, engine: Engine, own: Line, wanted: Line, now: float) -> float:
        return now


@dataclass
class Patience(Rule):
    seconds: float = 10.0

    def busy_until(self, engine: Engine, own: Line, wanted: Line, now: float) -> float:
        return wanted.oldest + self.seconds


class Sum(Rule):
    def busy_until(self, engine: Engine, own: Line, wanted: Line, now: float) -> float:
        left = switch_cost(engine, own, wanted) - wanted.waited(now)
        return now + max(0.0, left) / len(wanted.waiting)


@dataclass
class Visit(Rule):
    """Of `alpha` switch costs, from the later of: it became ready, somebody began to wait."""

    alpha: float = 2.0
    if_full: float = 1.0  # so many times as long while it has a line of its own

    def busy_until(self, engine: Engine, own: Line, wanted: Line, now: float) -> float:
        cost = switch_cost(engine, own, wanted)
        length = self.alpha * (self.if_full if own.waiting else 1.0)
        end = max(engine.ready_at, wanted.oldest) + length * cost
        batch = bool(own.waiting) and own.oldest < engine.ready_at
        return max(end, engine.ready_at + BATCH * cost if batch else end)


# By name; each a new one, as some of them learn. Not here: "never" with a grace, which serves the
# first of two agents for ever and looks good on the mean, as nobody counts who never comes to ask.
POLICIES: dict[str, Callable[[], Rule]] = {
    "join": Rule,
    "exhaustive": lambda: Rule(worth),
    "exhaustive, most": lambda: Rule(count),
    "fifo": Fifo,
    "gated": Gated,
    "patience 10 s": Patience,
    "sum": lambda: Sum(worth),
    "visit 2": lambda: Visit(worth, Grace(), 2.0),
    "visit 2, doubled": lambda: Visit(worth, Grace(), 2.0, 2.0),
    "visit 3": lambda: Visit(worth, Grace(), 3.0),
    "visit 2, oldest": lambda: Visit(oldest, Grace(), 2.0),
}
