"""All who wait at this router: for which model, how many, how large, whose.

Rule: nothing is decided here.
"""

from __future__ import annotations

from collections import Counter

from router.queue import Queue, Ticket


class Crowd:
    def __init__(self) -> None:
        self.queues: dict[str, Queue] = {}  # by model; none of them empty
        self.bytes = 0
        self.of_tenant: Counter[str] = Counter()  # how many wait, for whatever
        self.bytes_of_tenant: Counter[str] = Counter()
        # A queue is kept while somebody of it is served: who is refused has a place there.
        self._kept: dict[str, Queue] = {}

    def __len__(self) -> int:
        return self.of_tenant.total()

    def oldest(self) -> list[float]:
        """Of each model, since when somebody waits."""
        return [queue.oldest() for queue in self.queues.values()]

    def join(self, ticket: Ticket) -> None:
        self._kept.setdefault(ticket.model, Queue()).add(ticket)
        self._count(ticket, 1)

    def back(self, ticket: Ticket) -> None:
        """It was served and nobody took it."""
        self._kept[ticket.model].back(ticket)
        self._count(ticket, 1)

    def leave(self, ticket: Ticket) -> None:
        """Nothing happens to who does not wait."""
        queue = self.queues.get(ticket.model)
        if queue is not None and ticket in queue:
            queue.remove(ticket)
            self._count(ticket, -1)

    def serve(self, model: str) -> Ticket:
        """Take out who is next."""
        ticket = self.queues[model].serve()
        self._count(ticket, -1)
        return ticket

    def over(self, ticket: Ticket) -> None:
        """It was served, and does not come back."""
        self._kept[ticket.model].over(ticket)
        self._tidy(ticket.model)

    def _count(self, ticket: Ticket, change: int) -> None:
        self.bytes += change * ticket.size
        self.bytes_of_tenant[ticket.tenant] += change * ticket.size
        self.of_tenant[ticket.tenant] += change
        if not self.of_tenant[ticket.tenant]:
            del self.of_tenant[ticket.tenant], self.bytes_of_tenant[ticket.tenant]
        self._tidy(ticket.model)

    def _tidy(self, model: str) -> None:
        queue = self._kept[model]
        if queue:
            self.queues[model] = queue
        else:
            self.queues.pop(model, None)
            if not queue.serves:
                del self._kept[model]
