"""Who waits for one model, in order: priority, then the tenants in turn, then arrival.

Rule: a request that comes back after a refusal keeps its turn and its arrival, so it is at its old
place by itself.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import merge
from operator import attrgetter

from router.fairness import Turns

Order = tuple[int, int, float, str]


@dataclass(frozen=True, slots=True)
class Ticket:
    """One request that waits or is served. `arrived` in seconds, `size` of its body in bytes."""

    id: str
    model: str
    arrived: float
    priority: int = 0
    size: int = 0
    tenant: str = ""


_arrival = attrgetter("arrived", "id")


@dataclass(slots=True)
class Queue:
    # By priority and tenant, each in order of arrival; none of them empty.
    _rows: dict[tuple[int, str], list[Ticket]] = field(default_factory=dict)
    # What is asked for with each request, and would cost a walk through the rows.
    _waiting: Counter[int] = field(default_factory=Counter)  # how many, by priority
    _oldest: float | None = None  # None: to be found again
    _turns: defaultdict[int, Turns] = field(default_factory=lambda: defaultdict(Turns))
    _serving: dict[str, Order] = field(default_factory=dict)  # by id: as what it was served
    _back: dict[str, tuple[Order, Ticket]] = field(default_factory=dict)  # the refused

    def __len__(self) -> int:
        return self._waiting.total()

    def __iter__(self) -> Iterator[Ticket]:
        rows = [[(self._order(t, n), t) for n, t in enumerate(row)] for row in self._rows.values()]
        return iter([ticket for _, ticket in merge(*rows, sorted(self._back.values()))])

    def __contains__(self, ticket: Ticket) -> bool:
        row = self._rows.get((ticket.priority, ticket.tenant), [])
        at = bisect_left(row, _arrival(ticket), key=_arrival)
        return ticket.id in self._back or row[at : at + 1] == [ticket]

    @property
    def serves(self) -> bool:
        """Whether somebody of it is served now."""
        return bool(self._serving)

    def add(self, ticket: Ticket) -> None:
        row = self._rows.setdefault((ticket.priority, ticket.tenant), [])
        if not row:
            self._turns[ticket.priority].joined(ticket.tenant)
        insort(row, ticket, key=_arrival)
        self._came(ticket)

    def pass_through(self, ticket: Ticket) -> None:
        """As if it had been added and served: nobody else waits."""
        turns = self._turns[ticket.priority]
        turns.joined(ticket.tenant)
        self._serving[ticket.id] = self._order(ticket)
        turns.served(ticket.tenant)

    def serve(self) -> Ticket:
        """Take out who is next."""
        order, ticket = min(self._firsts())
        if ticket.id not in self._back:
            self._turns[ticket.priority].served(ticket.tenant)
        self.remove(ticket)
        self._serving[ticket.id] = order
        return ticket

    def back(self, ticket: Ticket) -> None:
        """It was served, and nobody took it."""
        self._back[ticket.id] = (self._serving.pop(ticket.id), ticket)
        self._came(ticket)

    def over(self, ticket: Ticket) -> None:
        """It was served, and does not come back."""
        del self._serving[ticket.id]

    def remove(self, ticket: Ticket) -> None:
        self._went(ticket)
        if self._back.pop(ticket.id, None):
            return
        row = self._rows[ticket.priority, ticket.tenant]
        del row[bisect_left(row, _arrival(ticket), key=_arrival)]
        if not row:
            del self._rows[ticket.priority, ticket.tenant]

    def index(self, ticket: Ticket) -> int:
        """How many are served before it."""
        if ticket.id in self._back:
            order = self._back[ticket.id][0]
        else:
            row = self._rows[ticket.priority, ticket.tenant]
            at = bisect_left(row, _arrival(ticket), key=_arrival)
            if len(row) == len(self):
                return at  # one tenant, as mostly
            order = self._order(ticket, at)
        refused = sum(other < order for other, _ in self._back.values())
        return refused + sum(self._before(order, *whose) for whose in self._rows)

    def first_of(self, tenant: str) -> Ticket | None:
        rows = [row for (_, whose), row in self._rows.items() if whose == tenant]
        refused = [found for found in self._back.values() if found[1].tenant == tenant]
        own = [*((self._order(row[0]), row[0]) for row in rows), *refused]
        return min(own)[1] if own else None

    def waiting(self) -> dict[int, int]:
        """How many, by priority."""
        return dict(self._waiting)

    def oldest(self) -> float:
        """When the first of all who wait arrived, whatever their priority."""
        if self._oldest is None:
            refused = [ticket.arrived for _, ticket in self._back.values()]
            firsts = [row[0].arrived for row in self._rows.values()]
            self._oldest = min([*firsts, *refused], default=math.inf)
        return self._oldest

    def _came(self, ticket: Ticket) -> None:
        self._waiting[ticket.priority] += 1
        if self._oldest is not None:
            self._oldest = min(self._oldest, ticket.arrived)

    def _went(self, ticket: Ticket) -> None:
        self._waiting[ticket.priority] -= 1
        if not self._waiting[ticket.priority]:
            del self._waiting[ticket.priority]
        if ticket.arrived == self._oldest:
            self._oldest = None

    def _firsts(self) -> list[tuple[Order, Ticket]]:
        """The next is one of these, whichever tenant's it is."""
        return [
            *((self._order(row[0]), row[0]) for row in self._rows.values()),
            *self._back.values(),
        ]

    def _order(self, ticket: Ticket, before: int = 0) -> Order:
        """`before`: how many stand before it in its row."""
        turn = self._turns[ticket.priority].of(ticket.tenant) + before
        return (-ticket.priority, turn, ticket.arrived, ticket.id)

    def _before(self, order: Order, priority: int, tenant: str) -> int:
        """How many of the row are served before who has that order."""
        row = self._rows[priority, tenant]
        if -priority != order[0]:
            return len(row) if -priority < order[0] else 0
        same = order[1] - self._turns[priority].of(tenant)  # where in the row the same turn is
        if not 0 <= same < len(row):
            return len(row) if same > 0 else 0
        return same + (self._order(row[same], same) < order)
