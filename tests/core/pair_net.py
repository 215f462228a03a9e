"""A virtual clock, and a network that is late and loses things. All that is random has one seed."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable

WAKES_IN_A_ROW = 3  # deadlines at one instant; more is a loop that never sleeps
LONGEST_ECHO = 5.0  # seconds: by then a router has given a message up


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self._agenda: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._count = itertools.count()

    def at(self, when: float, act: Callable[..., None], *args: object) -> None:
        heapq.heappush(self._agenda, (max(when, self.now), next(self._count), act, args))

    def after(self, delay: float, act: Callable[..., None], *args: object) -> None:
        self.at(self.now + delay, act, *args)

    def run(self, until: float, done: Callable[[], bool]) -> None:
        while self._agenda and self._agenda[0][0] <= until and not done():
            self.now, _, act, args = heapq.heappop(self._agenda)
            act(*args)


class Alarm:
    """One deadline, set anew as often as one likes."""

    def __init__(self, clock: Clock, act: Callable[[], None]) -> None:
        self._clock, self._act = clock, act
        self._due = math.inf
        self._rang, self._in_a_row = -1.0, 0

    @property
    def is_set(self) -> bool:
        return self._due < math.inf

    def set(self, when: float) -> None:
        if when != self._due:
            self._due = when
            if self.is_set:
                self._clock.at(when, self._ring, when)

    def off(self) -> None:
        self._due = math.inf

    def _ring(self, when: float) -> None:
        if when != self._due:
            return
        self.off()
        now = self._clock.now
        self._in_a_row = self._in_a_row + 1 if now == self._rang else 1
        self._rang = now
        assert self._in_a_row <= WAKES_IN_A_ROW, f"a deadline that never passes, at {now}"
        self._act()


class Network:
    """`delays`: the shortest and the longest way, in seconds. `loss`: the chance that a single
    demand or Status is lost; requests and their answers never are. `echoes`: the chance that a
    demand comes a second time, late, after newer ones."""

    def __init__(
        self, clock: Clock, seed: int, delays: tuple[float, float], loss: float, echoes: float = 0.0
    ) -> None:
        self.random = random.Random(seed)
        self.loss, self.echoes = loss, echoes
        self._clock, self._delays = clock, delays

    @property
    def longest_way(self) -> float:
        return self._delays[1]

    def delay(self) -> float:
        return self.random.uniform(*self._delays)

    def carry(self, act: Callable[..., None], *args: object) -> None:
        self._clock.after(self.delay(), act, *args)

    def loses(self) -> bool:
        return self.random.random() < self.loss

    def echo(self) -> float | None:
        """After how many seconds the same message comes again, if it does."""
        if self.random.random() >= self.echoes:
            return None
        return self.random.uniform(0.0, LONGEST_ECHO)


class Link:
    """The way between one router and one box. While it is cut, what is sent waits."""

    def __init__(self, clock: Clock, net: Network) -> None:
        self.healed = 0.0  # when it was, or will be
        self._clock, self._net = clock, net

    @property
    def is_cut(self) -> bool:
        return self._clock.now < self.healed

    def cut(self, seconds: float) -> None:
        self.healed = max(self.healed, self._clock.now + seconds)

    def arrival(self) -> float:
        """When what is sent now arrives."""
        return max(self._clock.now, self.healed) + self._net.delay()

    def carry(self, act: Callable[..., None], *args: object) -> None:
        self._clock.at(self.arrival(), act, *args)
