"""Wakes many after a while, those who are due at nearly the same time together.

10,000 clients are told something every 5 s. With a timer for each, the loop would turn for each one
too, and keep all of them in order: a fifth of what the telling costs.
"""

from __future__ import annotations

import asyncio
import math

TICK = 0.05  # seconds; nobody sees a frame that comes so much later


class Wheel:
    def __init__(self) -> None:
        self._due: dict[int, set[asyncio.Future[None]]] = {}  # by tick

    def add(self, waiter: asyncio.Future[None], seconds: float) -> set[asyncio.Future[None]]:
        """Give it a result, if it has none, after that time, to the next tick. It may be taken out
        of the set before."""
        loop = waiter.get_loop()
        tick = math.ceil((loop.time() + seconds) / TICK)
        due = self._due.get(tick)
        if due is None:
            due = self._due[tick] = set()
            loop.call_at(tick * TICK, self._ring, tick)
        due.add(waiter)
        return due

    def _ring(self, tick: int) -> None:
        for waiter in self._due.pop(tick):
            if not waiter.done():
                waiter.set_result(None)
