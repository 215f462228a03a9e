"""What a router may expect of this box: when each model could be ready, and what that costs.

Rule 1: this asks the planner's own rules "what if", and decides nothing.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from shared.status import LEAVING, Phase
from sidecar.demand import Want
from sidecar.memory import fits
from sidecar.plan import Candidate, Claim, Facts, Resident
from sidecar.room import Room
from sidecar.victims import Eviction, Victims
from sidecar.visits import is_busy, is_full


@dataclass(frozen=True, slots=True)
class Prospect:
    """`ready_in`: seconds until it could be ready, were it asked for now; None: not while things
    are as they are. `disturbs`: seconds that others may have to wait for it."""

    ready_in: float | None
    disturbs: float = 0.0


Candidates = Mapping[str, Candidate]

NEVER = Prospect(None)
GOOD_FOR = 1.0  # seconds: times of idleness grow meanwhile, and visits come to their end


@dataclass(slots=True)
class Outlook:
    """The prospects of every model of a box, worked out anew when something has changed that
    matters to them, for those who wait always, and else once a second."""

    _of: object = None
    _at: float = -math.inf
    _all: dict[str, Prospect] = field(default_factory=dict)

    def of(self, facts: Facts, candidates: Callable[[], Candidates]) -> Mapping[str, Prospect]:
        matters = _what_matters(facts)
        if matters != self._of or facts.now >= self._at + GOOD_FOR:
            self._of, self._at = matters, facts.now
            self._all = prospects(facts, candidates())
        here = {m: facts.residents[m] for m in facts.wants if m in facts.residents}
        coming = {m: r for m, r in here.items() if r.phase not in LEAVING}
        known = {m: Prospect(max(0.0, r.ready_at - facts.now)) for m, r in coming.items()}
        waiting = {m: facts.candidates[m] for m in facts.wants if m not in known}
        return self._all | known | (prospects(facts, waiting) if waiting else {})


def _what_matters(facts: Facts) -> object:
    """All but the time that passes."""
    stand = [
        (
            *(r.model, r.phase, r.unkillable, r.booking),
            *(is_busy(facts, r), is_full(facts, r), r.model in facts.wants),
        )
        for r in facts.residents.values()
    ]
    return (stand, facts.claims, facts.capacity)


def prospects(facts: Facts, candidates: Candidates) -> dict[str, Prospect]:
    """`facts.wants` tells who waits already."""
    view = _View(facts)
    return {model: view.prospect(model, candidate) for model, candidate in candidates.items()}


class _View:
    """A box now, and once those have left who leave, and those are ready who start."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._now, self._later = Room(facts, claims=list(facts.claims)), _later(facts)
        self._spare_now, self._spare_later = self._now.spare(), self._later.spare()
        self._victims = Victims(self._later)
        self._until_left = _until_left(facts)

    def prospect(self, model: str, candidate: Candidate) -> Prospect:
        facts = self._facts
        if (coming := self._later.facts.residents.get(model)) is not None:
            ready_in = max(0.0, coming.ready_at - facts.now)
            return NEVER if coming.unkillable else Prospect(ready_in)
        if facts.now < candidate.retry_at:
            return NEVER
        roomy = [booking for booking in candidate.placements if fits(booking, self._spare_now)]
        if any(self._now.takes_now(booking) for booking in roomy):
            return Prospect(candidate.load_s)
        if any(fits(booking, self._spare_later) for booking in candidate.placements):
            return Prospect(self._until_left + candidate.load_s)
        want = facts.wants.get(model, Want({0: 1}, facts.now))
        eviction = self._victims.cheapest(candidate, want)
        return _after(self._later.facts, eviction) if eviction else NEVER


def _later(facts: Facts) -> Room:
    """The room once those have left who leave, and those are ready who start or have a claim."""
    residents = facts.residents.values()
    ready = [replace(r, phase=Phase.READY) for r in residents if r.phase not in LEAVING]
    ready += [r for r in residents if r.unkillable]
    ready += [_claimed(facts, claim) for claim in facts.claims]
    served = {r.model: facts.wants[r.model] for r in ready if _is_served_at_once(facts, r)}
    serving = [
        replace(r, in_flight=r.in_flight + served[r.model].count) if r.model in served else r
        for r in ready
    ]
    wants = {model: want for model, want in facts.wants.items() if model not in served}
    here = {resident.model: resident for resident in serving}
    return Room(replace(facts, residents=here, wants=wants, claims=()))


def _is_served_at_once(facts: Facts, resident: Resident) -> bool:
    """Whether it has a slot for all who wait for it. Then it is free again when they are answered,
    and not only when its visit could have lasted longest."""
    return resident.model in facts.wants and not is_full(facts, resident)


def _claimed(facts: Facts, claim: Claim) -> Resident:
    ready_at = facts.now + _until_left(facts) + facts.candidates[claim.model].load_s
    want = facts.wants.get(claim.model)
    return Resident(
        model=claim.model,
        phase=Phase.READY,
        booking=claim.booking,
        in_flight=0,
        slots=want.count if want else 1,
        ready_at=ready_at,
        last_used=ready_at,
        load_s=facts.candidates[claim.model].load_s,
    )


def _until_left(facts: Facts) -> float:
    """Until those are gone who leave now, as far as anybody knows."""
    leaving = [r for r in facts.residents.values() if r.phase in LEAVING]
    return max((r.stop_s + (r.service_s if r.in_flight else 0.0) for r in leaving), default=0.0)


def _after(facts: Facts, eviction: Eviction) -> Prospect:
    disturbed = sum(_disturbs(facts, victim) for victim in eviction.victims)
    return Prospect(eviction.at - facts.now + eviction.cost, disturbed)


def _disturbs(facts: Facts, victim: Resident) -> float:
    """What was used a moment ago will mostly be asked for again."""
    idle = 0.0 if is_busy(facts, victim) else facts.now - victim.last_used
    again = 1.0 if idle <= victim.load_s else victim.load_s / idle
    return victim.load_s * again
