"""Who waits for one model, in order: priority, then arrival.

Rule: a request that comes back after a refusal has its old arrival, so it is at its old place by
itself.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Ticket:
    """One request that waits or is served. `arrived` in seconds, `size` of its body in bytes."""

    id: str
    model: str
    arrived: float
    priority: int = 0
    size: int = 0

    @property
    def order(self) -> tuple[int, float, str]:
        return (-self.priority, self.arrived, self.id)


def _order(ticket: Ticket) -> tuple[int, float, str]:
    return ticket.order


@dataclass(slots=True)
class Queue:
    _tickets: list[Ticket] = field(default_factory=list)
    _by_priority: Counter[int] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self._tickets)

    def __iter__(self) -> Iterator[Ticket]:
        return iter(tuple(self._tickets))

    def __contains__(self, ticket: Ticket) -> bool:
        at = self.index(ticket)
        return self._tickets[at : at + 1] == [ticket]

    @property
    def head(self) -> Ticket:
        return self._tickets[0]

    def add(self, ticket: Ticket) -> None:
        insort(self._tickets, ticket, key=_order)
        self._by_priority[ticket.priority] += 1

    def remove(self, ticket: Ticket) -> None:
        del self._tickets[self.index(ticket)]
        self._by_priority[ticket.priority] -= 1

    def index(self, ticket: Ticket) -> int:
        """How many are served before it."""
        return bisect_left(self._tickets, ticket.order, key=_order)

    def waiting(self) -> dict[int, int]:
        """How many, by priority."""
        return {priority: n for priority, n in self._by_priority.items() if n}

    def oldest(self) -> float:
        """When the first of all who wait arrived, whatever their priority."""
        firsts = (
            bisect_left(self._tickets, (-priority, float("-inf"), ""), key=_order)
            for priority in self.waiting()
        )
        return min(self._tickets[first].arrived for first in firsts)
