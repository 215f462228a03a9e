"""What is due when: deadlines by name, of which the first is found at once.

Rule: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

import heapq
import math

SPARE = 64  # entries that are out of date before all of them are thrown out


class Agenda:
    def __init__(self) -> None:
        self._when: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []  # entries whose time is not `_when`'s are void

    def set(self, name: str, when: float) -> None:
        if self._when.get(name) == when:
            return
        self._when[name] = when
        heapq.heappush(self._heap, (when, name))
        if len(self._heap) > 2 * len(self._when) + SPARE:
            self._heap = [(when, name) for name, when in self._when.items()]
            heapq.heapify(self._heap)

    def drop(self, name: str) -> None:
        self._when.pop(name, None)

    def first(self) -> float:
        """When the next is due; infinity if nothing is."""
        while self._heap and self._when.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def due(self, now: float) -> list[str]:
        """What is due by now, and is no more."""
        due = []
        while self.first() <= now:
            due.append(heapq.heappop(self._heap)[1])
            del self._when[due[-1]]
        return due
