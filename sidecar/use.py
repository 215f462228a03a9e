"""What one engine takes of the memory, from its start until its memory is back; and how long that
is waited for.

Rule: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from shared.status import Phase
from sidecar.engine import Engine
from sidecar.memory import Bytes, gib, on_gpus
from sidecar.needs import name_of

# What is waited for has come when no more than this is missing: drivers and desktops breathe.
SLACK = 128 * 2**20
RETURNS_WITHIN = 5.0  # seconds; when no memory has come for so long, it will not


@dataclass(slots=True)
class Hope:
    """For memory that is missing. It ends when none of it has come for a while."""

    missing: int
    until: float

    def saw(self, missing: int, now: float) -> None:
        if missing < self.missing:
            self.missing, self.until = missing, now + RETURNS_WITHIN


@dataclass(slots=True)
class Use:
    """What one engine takes, from its start until its memory is back."""

    engine: Engine
    before: Bytes  # used of each of its GPUs when it started
    alone: bool  # nobody else of ours has come or gone there since
    now: dict[str, int] = field(default_factory=dict)  # by pool, as far as it was seen
    peak: dict[str, int] = field(default_factory=dict)
    told: bool = False  # the drivers have named its processes
    listed: bool = False  # and did so at the last look
    measured: bool = False  # since it is ready
    kept: dict[str, int] = field(default_factory=dict)  # the peak as it is in the history
    ended_at: float = math.inf
    hope: Hope | None = None  # that its memory comes back, once its process is gone

    @property
    def is_settled(self) -> bool:
        """It neither takes nor gives back memory."""
        return self.measured and self.engine.machine.phase is not Phase.STOPPING

    @property
    def hides_strangers(self) -> bool:
        """What it takes at this moment is not known."""
        return not (self.listed or (self.is_settled and not self.told))

    def holds(self, pool: str) -> int:
        """As far as it is known; else what it has booked."""
        booked = self.engine.booking.get(pool, 0)
        return self.now.get(pool, booked) if booked else 0

    @property
    def room(self) -> Bytes:
        """Its booking, or what it takes of its GPUs beyond that."""
        booked = self.engine.booking
        return {**booked, **{p: max(it, self.holds(p)) for p, it in on_gpus(booked).items()}}

    def look(self, told: Bytes, used: Bytes, at: float) -> None:
        machine = self.engine.machine
        self.listed = bool(on_gpus(told)) and machine.phase is not Phase.STOPPING
        if machine.phase is Phase.STOPPING:
            return  # it shrinks, and what it has taken must come back
        self.told |= self.listed
        ready = machine.serves and at >= machine.ready_at
        if ready and self.alone and not (self.told or self.measured):
            told = {**told, **self._difference(used)}
        self.now.update(told)
        self.peak.update({p: max(size, self.peak.get(p, 0)) for p, size in told.items()})
        self.measured |= ready

    def _difference(self, used: Bytes) -> Bytes:
        """A small one is not worth a name: an engine that is on a GPU takes more. Where less is
        used than before, strangers have left meanwhile, and nobody knows what it takes."""
        grown = {p: used[p] - before for p, before in self.before.items() if p in used}
        return {p: size if size > SLACK else 0 for p, size in grown.items() if size >= -SLACK}


@dataclass(frozen=True, slots=True)
class Lost:
    """Memory that did not come back: a problem of the box until it does."""

    pool: str
    size: int
    model: str
    strangers: int  # before

    def __str__(self) -> str:
        return (
            f"{name_of(self.pool)}: {gib(self.size)} of {self.model} did not come back "
            f"within {RETURNS_WITHIN:.0f} s: treated as others'"
        )
