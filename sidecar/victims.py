"""Who leaves for whom: the set of engines that is cheapest to disturb.

Rule 1: victims are chosen here and nowhere else; when they may be told to go is `visits.py`'s.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from shared.status import Phase
from sidecar.demand import Want
from sidecar.memory import Bytes
from sidecar.plan import Candidate, Facts, Resident
from sidecar.room import Room
from sidecar.visits import is_busy, may_leave_at, switch_cost

# Of an idle model nobody knows the rate: half a request since it went idle.
GUESSED_REQUESTS = 0.5


@dataclass(frozen=True, slots=True)
class Eviction:
    booking: Bytes
    victims: tuple[Resident, ...]
    at: float  # the earliest moment at which they may be told to go
    cost: float  # seconds, of the switch: the load, the longest stop, the longest drain


@dataclass(frozen=True, slots=True)
class _Priced:
    """An engine that may have to leave. Busy ones are always dearer than idle ones."""

    resident: Resident
    is_busy: bool
    price: float

    @property
    def dearness(self) -> tuple[bool, float, float, str]:
        return (self.is_busy, self.price, self.resident.last_used, self.resident.model)


class Victims:
    """All that may be told to go while the room is as it is, the cheapest first."""

    def __init__(self, room: Room) -> None:
        facts = room.facts
        self._facts = facts
        self.spare = room.spare()
        self._possible = sorted(
            (
                _Priced(resident, is_busy(facts, resident), price(facts, resident))
                for resident in facts.residents.values()
                if _may_go(room, resident)
            ),
            key=lambda one: one.dearness,
        )

    def cheapest(
        self, candidate: Candidate, want: Want, safe: Collection[str] = ()
    ) -> Eviction | None:
        """The best way to make its room; None if there is none. `safe`: who must not leave for it,
        as somebody more urgent waits for them: a model that loads fast would always be before one
        that loads slowly, and that one would starve."""
        choices = [
            (booking, chosen)
            for booking in candidate.placements
            if (chosen := self._chosen(booking, safe, at_least=int(candidate.again)))
        ]
        if not choices:
            return None
        booking, chosen = min(choices, key=lambda choice: self._disturbance(*choice))
        victims = tuple(one.resident for one in chosen)
        at = may_leave_at(self._facts, want, candidate.load_s, victims)
        return Eviction(booking, victims, at, switch_cost(self._facts, candidate.load_s, victims))

    def _disturbance(self, booking: Bytes, chosen: list[_Priced]) -> tuple[int, float, float, int]:
        left = sum(-missing for missing in self._missing(booking, chosen).values())
        return (
            sum(one.is_busy for one in chosen),
            sum(one.price for one in chosen),
            max(one.resident.last_used for one in chosen),
            left,
        )

    def _chosen(self, booking: Bytes, safe: Collection[str], at_least: int) -> list[_Priced]:
        """The cheapest until it fits, then without those that it fits without, dearest first."""
        chosen: list[_Priced] = []
        missing = self._missing(booking, chosen)
        for one in self._possible:
            if _is_met(missing) and len(chosen) >= at_least:
                break
            resident = one.resident
            if resident.model not in safe and not booking.keys().isdisjoint(resident.booking):
                chosen.append(one)
                missing = self._missing(booking, chosen)
        return self._spared(booking, chosen, at_least) if _is_met(missing) else []

    def _spared(self, booking: Bytes, chosen: list[_Priced], at_least: int) -> list[_Priced]:
        for one in reversed(chosen):
            others = [other for other in chosen if other is not one]
            if len(others) >= at_least and _is_met(self._missing(booking, others)):
                chosen = others
        return chosen

    def _missing(self, booking: Bytes, leaving: Collection[_Priced]) -> Mapping[str, int]:
        """By pool: what it needs beyond what is there when these have left."""
        return {
            pool: size
            - self.spare.get(pool, 0)
            - sum(one.resident.booking.get(pool, 0) for one in leaving)
            for pool, size in booking.items()
        }


def _is_met(missing: Mapping[str, int]) -> bool:
    return all(size <= 0 for size in missing.values())


def _may_go(room: Room, resident: Resident) -> bool:
    """Engines that are ready, or loads that nobody waits for any more. Pins never."""
    abandoned = resident.phase is Phase.STARTING and not is_busy(room.facts, resident)
    may_go = resident.phase is Phase.READY or abandoned
    return may_go and not resident.pinned and not room.leaves(resident)


def price(facts: Facts, resident: Resident) -> float:
    """What it costs others when it leaves: its load, as often as it will be asked for."""
    idle = max(0.0, facts.now - resident.last_used)
    return resident.load_s * max(resident.rate, GUESSED_REQUESTS / (1 + idle))


def best_fit(bookings: Collection[Bytes], room: Bytes) -> Bytes:
    """The one that leaves the least behind; the first of several."""

    def left_behind(booking: Bytes) -> int:
        return sum(room.get(pool, 0) - size for pool, size in booking.items())

    return min(bookings, key=left_behind)
