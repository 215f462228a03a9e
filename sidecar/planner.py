"""Which models are resident on this box: demand + memory + policy -> start, drain, keep.

Rule 1: every such decision, and the reason for it, is made here and nowhere else.
Rule 2: this file does no I/O, reads no clock and never awaits; it keeps nothing between calls.

A model that waits gets its room at once where there is room. Where there is none, the cheapest
set of victims leaves: idle ones at once, a busy one at the end of its *visit*. The visit's clock
runs only while this visit makes somebody wait, so each load serves those it was made for, and
nobody starves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from shared.status import Phase
from sidecar.memory import Bytes, add, fits, subtract
from sidecar.plan import Candidate, Claim, Drain, Facts, Keep, Plan, Resident, Start, Wait

# A visit lasts this many switch costs once somebody else waits: 2 costs at most 2 % of the mean
# wait in open traffic, and a busy model never holds a box for ever.
VISIT = 2.0
VISIT_OF_A_FULL_ENGINE = 4.0  # while its own slots are taken and it has a line of its own
BATCH = 8.0  # who waited when it became ready is served first, for this many switch costs at most
LEAST_VISIT = 1.0  # even the patience of others leaves a visit one switch cost


def plan(facts: Facts) -> Plan:
    return _Planning(facts).plan()


@dataclass(frozen=True, slots=True)
class _Eviction:
    booking: Bytes
    victims: tuple[Resident, ...]
    at: float  # the earliest moment at which they may be told to go


@dataclass(slots=True)
class _Planning:
    """One run of the planner: `facts` as they are, and what has been decided so far."""

    facts: Facts
    starts: list[Start] = field(default_factory=list)
    drains: list[Drain] = field(default_factory=list)
    keeps: list[Keep] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    awaited: set[str] = field(default_factory=set)  # by somebody who comes before the next
    deadline: float = math.inf

    def plan(self) -> Plan:
        self._drop_claims_that_nobody_wants()
        self._start_claims_that_have_their_room()
        for model in self._most_urgent_first():
            self._make_room_for(model)
        return Plan(
            tuple(self.starts),
            tuple(self.drains),
            tuple(self.keeps),
            tuple(self.claims),
            tuple(self.waits),
            self.deadline,
        )

    # Claims that were made before.

    def _drop_claims_that_nobody_wants(self) -> None:
        self.claims = [claim for claim in self.facts.claims if claim.model in self.facts.wants]
        for claim in self.facts.claims:
            if claim not in self.claims:
                self._keep_victims_of(claim)

    def _keep_victims_of(self, dropped: Claim) -> None:
        for name in dropped.victims:
            victim = self.facts.residents.get(name)
            if victim is None or victim.phase is not Phase.SWITCHING or not self._leaves(victim):
                continue
            without_it = subtract(self._spare(), victim.booking)
            if all(without_it[pool] >= 0 for pool in victim.booking):  # no other claim needs it
                self.keeps.append(Keep(name, f"nobody waits for {dropped.model} any more"))
                self._ask_again(self.facts.now)  # once it is ready, it may be another's victim

    def _start_claims_that_have_their_room(self) -> None:
        waiting: list[Claim] = []
        for claim in self.claims:
            ahead = add(c.booking for c in waiting)
            free, spare = self._free(), subtract(self._arriving(), ahead)
            if fits(claim.booking, free) and fits(claim.booking, spare):
                self.starts.append(Start(claim.model, claim.booking, claim.because))
            else:
                waiting.append(claim)
        self.claims = waiting

    # Models that wait and have neither an engine nor a claim.

    def _most_urgent_first(self) -> list[str]:
        """Who waited beyond patience, oldest first; then by waiting per second of load."""
        facts = self.facts
        spoken_for = {claim.model for claim in self.claims} | {s.model for s in self.starts}
        models = [m for m in facts.wants if m not in facts.residents and m not in spoken_for]

        def urgency(model: str) -> tuple[float, float, float, str]:
            want = facts.wants[model]
            overdue = want.oldest if facts.now - want.oldest >= facts.rules.patience else math.inf
            worth = want.weight * want.waited(facts.now) / facts.candidates[model].load_s
            return (overdue, -worth, want.oldest, model)

        return sorted(models, key=urgency)

    def _make_room_for(self, model: str) -> None:
        candidate, now = self.facts.candidates[model], self.facts.now
        if now < candidate.retry_at:
            self._ask_again(candidate.retry_at)
            left = candidate.retry_at - now
            self._wait(model, f"its last load failed; the next try is in {left:.0f} s")
            return
        because = self._waiting_for(model)
        roomy = [booking for booking in candidate.placements if fits(booking, self._spare())]
        if roomy:
            self._start_or_claim(model, roomy, because)
            return
        eviction = self._cheapest_eviction(model, candidate)
        if eviction is None:
            self._wait(model, f"{because}; nothing that may leave would make enough room")
        elif eviction.at > now:
            self._ask_again(eviction.at)
            self.awaited.update(v.model for v in eviction.victims)
            names = ", ".join(v.model for v in eviction.victims)
            left = eviction.at - now
            self._wait(model, f"{because}; {names} may be served for {left:.1f} s more")
        else:
            self._evict(model, eviction, because)

    def _start_or_claim(self, model: str, roomy: list[Bytes], because: str) -> None:
        """Where there is room now; else where there will be."""
        at_once = next((booking for booking in roomy if fits(booking, self._free())), None)
        if at_once is not None:
            self.starts.append(Start(model, at_once, because))
        else:
            self.claims.append(Claim(model, roomy[0], (), because))

    def _evict(self, model: str, eviction: _Eviction, because: str) -> None:
        states = [self._state_of(v) for v in eviction.victims]
        for victim, state in zip(eviction.victims, states, strict=True):
            self.drains.append(Drain(victim.model, f"{model}: {because}; {state}"))
        names = tuple(v.model for v in eviction.victims)
        self.claims.append(Claim(model, eviction.booking, names, "; ".join([because, *states])))

    # Victims.

    def _cheapest_eviction(self, model: str, candidate: Candidate) -> _Eviction | None:
        choices = [
            _Eviction(booking, victims, self._may_leave_at(model, victims))
            for booking in candidate.placements
            if (victims := self._victims(booking))
        ]
        return min(choices, key=self._disturbance, default=None)

    def _disturbance(self, eviction: _Eviction) -> tuple[int, float, int]:
        busy = sum(self._busy(v) for v in eviction.victims)
        return (busy, max(v.last_used for v in eviction.victims), len(eviction.victims))

    def _victims(self, booking: Bytes) -> tuple[Resident, ...]:
        """The set that costs least: idle before busy, least recently used first. Empty if even
        all of them would not make the room."""
        chosen: list[Resident] = []
        for resident in sorted(self._may_be_victims(booking), key=self._price):
            if fits(booking, self._room_without(chosen)):
                break
            chosen.append(resident)
        if not fits(booking, self._room_without(chosen)):
            return ()
        for resident in sorted(chosen, key=self._price, reverse=True):
            without = [v for v in chosen if v is not resident]
            if fits(booking, self._room_without(without)):
                chosen = without
        return tuple(chosen)

    def _may_be_victims(self, booking: Bytes) -> Iterator[Resident]:
        """Engines that are ready, or loads that nobody waits for any more. Pins never; nor those
        that somebody more urgent waits for: a model that loads fast would always be before one
        that loads slowly, and that one would starve."""
        for resident in self.facts.residents.values():
            abandoned = resident.phase is Phase.STARTING and not self._busy(resident)
            may_go = resident.phase is Phase.READY or abandoned
            leaves_room = not booking.keys().isdisjoint(resident.booking)
            is_safe = resident.pinned or resident.model in self.awaited
            if may_go and leaves_room and not is_safe and not self._leaves(resident):
                yield resident

    def _price(self, resident: Resident) -> tuple[bool, float, str]:
        return (self._busy(resident), resident.last_used, resident.model)

    def _may_leave_at(self, model: str, victims: tuple[Resident, ...]) -> float:
        """Idle ones at once; busy ones when their visit ends."""
        busy = [v for v in victims if self._busy(v)]
        if not busy:
            return self.facts.now
        want, cost = self.facts.wants[model], self._switch_cost(model, victims)
        began = max(v.ready_at for v in busy)
        length = VISIT_OF_A_FULL_ENGINE if any(map(self._is_full, busy)) else VISIT
        visit_end = max(began, want.oldest) + length * cost / want.weight
        impatience = max(want.oldest + self.facts.rules.patience, began + LEAST_VISIT * cost)
        batches = [v.ready_at + BATCH * cost for v in busy if self._batch_waits(v)]
        return max(min(visit_end, impatience), *batches, self.facts.now)

    def _switch_cost(self, model: str, victims: tuple[Resident, ...]) -> float:
        """Seconds: the load, the longest stop, and the longest drain."""
        stop = max(v.stop_s for v in victims)
        drain = max((v.service_s for v in victims if v.in_flight), default=0.0)
        return self.facts.candidates[model].load_s + stop + drain

    def _busy(self, resident: Resident) -> bool:
        name = resident.model
        return resident.in_flight > 0 or name in self.facts.wants or name in self.facts.due

    def _is_full(self, resident: Resident) -> bool:
        """It has a line of its own, however the moment between two of its requests looks."""
        want = self.facts.wants.get(resident.model)
        due = self.facts.due.get(resident.model, 0)
        return want is not None and resident.in_flight + due + want.count > resident.slots

    def _batch_waits(self, resident: Resident) -> bool:
        want = self.facts.wants.get(resident.model)
        return want is not None and want.oldest < resident.ready_at

    # Room, by pool, in bytes.

    def _free(self) -> dict[str, int]:
        """What is there now."""
        booked = add(r.booking for r in self.facts.residents.values())
        started = add(s.booking for s in self.starts)
        return subtract(subtract(self.facts.capacity, booked), started)

    def _arriving(self) -> dict[str, int]:
        """What is there once those who leave are gone."""
        leaving = add(r.booking for r in self.facts.residents.values() if self._leaves(r))
        return add([self._free(), leaving])

    def _spare(self) -> dict[str, int]:
        """What is there once those who leave are gone and those with a claim have come."""
        return subtract(self._arriving(), add(c.booking for c in self.claims))

    def _room_without(self, victims: Iterable[Resident]) -> dict[str, int]:
        return add([self._spare(), add(v.booking for v in victims)])

    def _leaves(self, resident: Resident) -> bool:
        if any(resident.model == keep.model for keep in self.keeps):
            return False
        told = any(resident.model == drain.model for drain in self.drains)
        return told or resident.phase in (Phase.SWITCHING, Phase.STOPPING)

    # What is said.

    def _wait(self, model: str, because: str) -> None:
        self.waits.append(Wait(model, because))

    def _ask_again(self, at: float) -> None:
        self.deadline = min(self.deadline, at)

    def _waiting_for(self, model: str) -> str:
        want = self.facts.wants[model]
        if want.by_hand:
            return "asked for by hand"
        return f"{want.count} waiting, oldest {self.facts.now - want.oldest:.1f} s"

    def _state_of(self, resident: Resident) -> str:
        if self._busy(resident):
            return f"{resident.model} has had its visit"
        return f"{resident.model} idle for {self.facts.now - resident.last_used:.0f} s"
