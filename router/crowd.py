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
        self._count = 0
        self.of_tenant: Counter[str] = Counter()  # how many wait, for whatever
        self.bytes_of_tenant: Counter[str] = Counter()
        # A queue is kept while somebody of it is served: who is refused has a place there.
        self._kept: dict[str, Queue] = {}

    def __len__(self) -> int:
        return self._count

    def oldest(self) -> list[float]:
        """Of each model, since when somebody waits."""
        return [queue.oldest() for queue in self.queues.values()]

    def join(self, ticket: Ticket) -> None:
        self._queue_of(ticket).add(ticket)
        self._changes(ticket, 1)

    def pass_through(self, ticket: Ticket) -> None:
        """It is served as it comes, as nobody waits for its model: it is not counted."""
        self._queue_of(ticket).pass_through(ticket)

    def back(self, ticket: Ticket) -> None:
        """It was served and nobody took it."""
        self._kept[ticket.model].back(ticket)
        self._changes(ticket, 1)

    def leave(self, ticket: Ticket) -> None:
        """Nothing happens to who does not wait."""
        queue = self.queues.get(ticket.model)
        if queue is not None and ticket in queue:
            queue.remove(ticket)
            self._changes(ticket, -1)

    def serve(self, model: str) -> Ticket:
        """Take out who is next."""
        ticket = self.queues[model].serve()
        self._changes(ticket, -1)
        return ticket

    def over(self, ticket: Ticket) -> None:
        """It was served, and does not come back."""
        queue = self._kept[ticket.model]
        queue.over(ticket)
        if not queue.serves:
            self._tidy(ticket.model)

    def _queue_of(self, ticket: Ticket) -> Queue:
        queue = self._kept.get(ticket.model)
        if queue is None:
            queue = self._kept[ticket.model] = Queue()
        return queue

    def _changes(self, ticket: Ticket, change: int) -> None:
        self._count += change
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
