"""Who leaves for whom: the set of engines that is cheapest to disturb.

Rule 1: victims are chosen here and nowhere else; when they may be told to go is `visits.py`'s.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from shared.status import Phase
from sidecar.demand import Want
from sidecar.memory import Bytes, fits
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


def cheapest(
    room: Room, candidate: Candidate, want: Want, safe: Collection[str]
) -> Eviction | None:
    """The best way to make its room; None if there is none. `safe`: who must not leave for it."""
    choices = [
        _eviction(room.facts, candidate, want, booking, victims)
        for booking in candidate.placements
        if (victims := _victims(room, booking, safe, at_least=int(candidate.again)))
    ]
    return min(choices, key=lambda choice: _disturbance(room, choice), default=None)


def _eviction(
    facts: Facts, candidate: Candidate, want: Want, booking: Bytes, victims: tuple[Resident, ...]
) -> Eviction:
    cost = switch_cost(candidate.load_s, victims)
    return Eviction(booking, victims, may_leave_at(facts, want, candidate.load_s, victims), cost)


def price(facts: Facts, resident: Resident) -> float:
    """What it costs others when it leaves: its load, as often as it will be asked for."""
    idle = max(0.0, facts.now - resident.last_used)
    return resident.load_s * max(resident.rate, GUESSED_REQUESTS / (1 + idle))


def best_fit(bookings: Collection[Bytes], room: Bytes) -> Bytes:
    """The one that leaves the least behind; the first of several."""
    return min(bookings, key=lambda booking: _left_behind(booking, room))


def _left_behind(booking: Bytes, room: Bytes) -> int:
    return sum(room.get(pool, 0) - size for pool, size in booking.items())


def _disturbance(room: Room, eviction: Eviction) -> tuple[int, float, float, int]:
    facts = room.facts
    busy = sum(is_busy(facts, v) for v in eviction.victims)
    together = sum(price(facts, v) for v in eviction.victims)
    newest = max(v.last_used for v in eviction.victims)
    left = _left_behind(eviction.booking, room.without(eviction.victims))
    return (busy, together, newest, left)


def _victims(
    room: Room, booking: Bytes, safe: Collection[str], at_least: int
) -> tuple[Resident, ...]:
    """The cheapest first until it fits, then without those that it fits without, dearest first."""

    def dearness(resident: Resident) -> tuple[bool, float, float, str]:
        facts = room.facts
        return (
            is_busy(facts, resident),
            price(facts, resident),
            resident.last_used,
            resident.model,
        )

    possible = sorted(_may_be_victims(room, booking, safe), key=dearness)
    chosen: list[Resident] = []
    for resident in possible:
        if fits(booking, room.without(chosen)) and len(chosen) >= at_least:
            break
        chosen.append(resident)
    if not fits(booking, room.without(chosen)):
        return ()
    for resident in reversed(chosen[:]):
        others = [v for v in chosen if v is not resident]
        if len(others) >= at_least and fits(booking, room.without(others)):
            chosen = others
    return tuple(chosen)


def _may_be_victims(room: Room, booking: Bytes, safe: Collection[str]) -> Iterator[Resident]:
    """Engines that are ready, or loads that nobody waits for any more. Pins never; nor those
    that somebody more urgent waits for: a model that loads fast would always be before one
    that loads slowly, and that one would starve."""
    for resident in room.facts.residents.values():
        abandoned = resident.phase is Phase.STARTING and not is_busy(room.facts, resident)
        may_go = resident.phase is Phase.READY or abandoned
        leaves_room = not booking.keys().isdisjoint(resident.booking)
        is_safe = resident.pinned or resident.model in safe
        if may_go and leaves_room and not is_safe and not room.leaves(resident):
            yield resident
