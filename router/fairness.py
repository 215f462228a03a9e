"""Whose turn it is among the tenants who wait for one model with the same priority.

Rule 1: start-time fair queueing (Goyal, Vin and Cheng, 1996), where every request costs the same.
The lowest turn is served first, and of equal ones who came first.
Rule 2: this file does no I/O, reads no clock and never awaits.

A tenant's requests have consecutive turns in the order in which they came. A request has its turn
for good only when it is served: who gives up before costs those behind it nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Turns:
    _reached: int = 0  # the highest turn that was served
    _next: dict[str, int] = field(default_factory=dict)  # by tenant

    def of(self, tenant: str) -> int:
        """The turn of its first request that waits; those behind that one have the next ones."""
        return self._next[tenant]

    def joined(self, tenant: str) -> None:
        """Its only request that waits has come: turns that it did not use are not saved up."""
        self._next[tenant] = max(self._next.get(tenant, 0), self._reached + 1)

    def served(self, tenant: str) -> None:
        """The first of its requests; none that waits has a lower turn."""
        self._reached = self._next[tenant]
        self._next[tenant] += 1
