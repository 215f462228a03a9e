"""Who may not even wait, and when it makes sense to come back.

Rule 1: beyond its limits the line is closed at once; an error now is worth more than an answer
never.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf

from router import spread
from router.crowd import Crowd
from router.failures import queue_full, tenant_limit
from router.queue import Ticket
from router.story import Story
from shared.errors import SwapyardError, TooLarge

SOONEST = 1.0  # seconds; clients round down what is less
LATEST = 50.0  # seconds: with what is added below, no client is sent away for over a minute


@dataclass(frozen=True, slots=True)
class LineLimits:
    max_waiting: int
    max_bytes: int
    max_wait: float  # seconds
    box_grace: float  # seconds that a lost box is waited for
    max_waiting_per_tenant: int | None = None  # None: as many as of all together

    @property
    def max_bytes_per_tenant(self) -> float:
        """The share of `max_bytes` that a tenant has of `max_waiting`."""
        most = self.max_waiting_per_tenant
        return inf if most is None else self.max_bytes * most / self.max_waiting


def over_limit(
    ticket: Ticket, crowd: Crowd, stories: Mapping[str, Story], limits: LineLimits, now: float
) -> SwapyardError | None:
    """What a request is told that would have to wait and may not. `stories` by model. A tenant's
    own limit comes first: only that one is its own doing."""
    if ticket.size > limits.max_bytes:
        return TooLarge(limits.max_bytes)
    own, size = crowd.of_tenant[ticket.tenant], crowd.bytes_of_tenant[ticket.tenant]
    most = limits.max_waiting_per_tenant
    # Its first may wait, as a part may be smaller than one body.
    heavy = own > 0 and size + ticket.size > limits.max_bytes_per_tenant
    if heavy or (most is not None and own >= most):
        served_in = [
            stories[model].served_in(queue.index(first) + 1, now)
            for model, queue in crowd.queues.items()
            if (first := queue.first_of(ticket.tenant)) is not None
        ]
        return tenant_limit(own, size if heavy else None, _come_back(ticket, served_in, crowd, now))
    heavy = crowd.bytes + ticket.size > limits.max_bytes
    if heavy or len(crowd) >= limits.max_waiting:
        served_in = [stories[model].served_in(1, now) for model in crowd.queues]
        held = crowd.bytes if heavy else None
        return queue_full(len(crowd), held, _come_back(ticket, served_in, crowd, now))
    return None


def _come_back(
    ticket: Ticket, served_in: Iterable[float | None], crowd: Crowd, now: float
) -> float:
    """In how many seconds a place is free: of those who stand first, one is served. What nobody
    knows is expected to last as long again as the line has lasted."""
    known = [seconds for seconds in served_in if seconds is not None]
    soonest = min(known) if known else now - min(crowd.oldest(), default=now)
    return spread.around(min(max(soonest, SOONEST), LATEST), ticket.id)
