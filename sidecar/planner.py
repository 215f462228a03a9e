"""Which models are resident on this box: demand + memory + policy -> start, drain, keep.

Rule 1: every such decision, and the reason for it, is made here: by whom a model is followed, with
`victims.py` who leaves for it, and with `visits.py` when.
Rule 2: this file does no I/O, reads no clock and never awaits; it keeps nothing between calls.

A model that waits gets its room at once where there is room. Where there is none, the cheapest
set of victims leaves: idle ones at once, a busy one at the end of its visit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from shared.status import Phase
from sidecar.demand import Want
from sidecar.memory import Bytes, add, fits, subtract
from sidecar.plan import Candidate, Claim, Drain, Facts, Keep, Plan, Resident, Start, Wait
from sidecar.room import Room
from sidecar.victims import Eviction, Victims, best_fit
from sidecar.visits import VISIT, is_busy

NOBODY = Want({0: 1}, oldest=math.inf, routers=0)  # who waits for a model that only belongs here


def plan(facts: Facts) -> Plan:
    return _Planning(facts, Room(facts)).plan()


@dataclass(slots=True)
class _Planning:
    """One run of the planner: `facts` as they are, and what has been decided so far."""

    facts: Facts
    room: Room
    drains: list[Drain] = field(default_factory=list)
    keeps: list[Keep] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    awaited: set[str] = field(default_factory=set)  # by somebody who comes before the next
    deadline: float = math.inf
    _victims: Victims | None = None  # while the room is as it was

    def plan(self) -> Plan:
        self._drop_claims_that_nobody_wants()
        self._start_claims_that_have_their_room()
        for model in self._most_urgent_first():
            self._make_room_for(model)
        self._let_go_whose_time_is_over()
        for model in self._extras():
            self._bring_back(model)
        return Plan(
            tuple(self.room.starts),
            tuple(self.drains),
            tuple(self.keeps),
            tuple(self.room.claims),
            tuple(self.waits),
            self.deadline,
        )

    # Claims that were made before.

    def _drop_claims_that_nobody_wants(self) -> None:
        self.room.claims = [claim for claim in self.facts.claims if self._is_wanted(claim.model)]
        for claim in self.facts.claims:
            if claim not in self.room.claims:
                self._keep_victims_of(claim, f"nobody waits for {claim.model} any more")

    def _is_wanted(self, model: str) -> bool:
        """What only belongs here makes way for anybody who waits."""
        facts = self.facts
        somebody_waits = any(m not in facts.residents for m in facts.wants)
        return model in facts.wants or (model in facts.extras and not somebody_waits)

    def _keep_victims_of(self, dropped: Claim, because: str) -> None:
        for name in dropped.victims:
            victim = self.facts.residents.get(name)
            if victim is None or victim.phase is not Phase.SWITCHING:
                continue
            if not self.room.leaves(victim):
                continue
            without_it = subtract(self.room.spare(), victim.booking)
            if all(without_it[pool] >= 0 for pool in victim.booking):  # no other claim needs it
                self.room.kept.add(name)
                self.keeps.append(Keep(name, because))
                self._ask_again(self.facts.now)  # once it is ready, it may be another's victim

    def _start_claims_that_have_their_room(self) -> None:
        """One whose room others have taken meanwhile is planned anew."""
        claims, self.room.claims = self.room.claims, []
        moved: list[Claim] = []
        for claim in claims:
            if not fits(claim.booking, self.room.spare()):
                continue
            if self.room.takes_now(claim.booking):
                self.room.starts.append(Start(claim.model, claim.booking, claim.because))
            elif (elsewhere := self._elsewhere(claim, claims)) is not None:
                self.room.starts.append(Start(claim.model, elsewhere, claim.because))
                moved.append(claim)
            else:
                self.room.claims.append(claim)
        for claim in moved:
            self._keep_victims_of(claim, f"{claim.model} has found room elsewhere")

    def _elsewhere(self, claim: Claim, claims: Iterable[Claim]) -> Bytes | None:
        """Room that has come meanwhile, and that is promised to nobody."""
        promised = add(other.booking for other in claims if other is not claim)
        unpromised = subtract(self.room.arriving(), promised)
        for booking in self.facts.candidates[claim.model].placements:
            if self.room.takes_now(booking) and fits(booking, unpromised):
                return booking
        return None

    # Models that wait and have neither an engine nor a claim.

    def _most_urgent_first(self) -> list[str]:
        """Who waited beyond patience, oldest first; then by waiting per second of load."""
        facts = self.facts
        models = [m for m in facts.wants if self._has_nothing(m)]

        def urgency(model: str) -> tuple[float, float, float, str]:
            want = facts.wants[model]
            overdue = want.oldest if facts.now - want.oldest >= facts.rules.patience else math.inf
            worth = want.weight * want.waited(facts.now) / facts.candidates[model].load_s
            return (overdue, -worth, want.oldest, model)

        return sorted(models, key=urgency)

    def _has_nothing(self, model: str) -> bool:
        claimed = any(claim.model == model for claim in self.room.claims)
        starts = any(start.model == model for start in self.room.starts)
        return not (model in self.facts.residents or claimed or starts)

    def _make_room_for(self, model: str) -> None:
        candidate, want = self.facts.candidates[model], self.facts.wants[model]
        if self._backs_off(model, candidate):
            return
        because = self._waiting_for(want)
        eviction = self._eviction(candidate, want)
        if eviction is None and not self._start_where_there_is_room(model, candidate, because):
            self._cannot(model, candidate, because)
        elif eviction is not None and eviction.at > self.facts.now:
            self.awaited.update(v.model for v in eviction.victims)
            names = ", ".join(v.model for v in eviction.victims)
            left = self._until(eviction.at)
            self._wait(model, f"{because}; {names} may be served for {left:.1f} s more")
        elif eviction is not None:
            self._evict(model, eviction, because)

    def _eviction(self, candidate: Candidate, want: Want) -> Eviction | None:
        """Who must leave for it: nobody where there is room, unless the room did not do."""
        if not candidate.again and self._roomy(candidate):
            return None
        return self._possible_victims().cheapest(candidate, want, self.awaited)

    def _possible_victims(self) -> Victims:
        if self._victims is None:
            self._victims = Victims(self.room)
        return self._victims

    def _roomy(self, candidate: Candidate) -> Sequence[Bytes]:
        spare = self._possible_victims().spare
        return [booking for booking in candidate.placements if fits(booking, spare)]

    def _start_where_there_is_room(self, model: str, candidate: Candidate, because: str) -> bool:
        """Where there is room now; else where there will be."""
        roomy = self._roomy(candidate)
        if not roomy:
            return False
        at_once = [booking for booking in roomy if self.room.takes_now(booking)]
        booking = best_fit(at_once or roomy, self._possible_victims().spare)
        if at_once:
            self.room.starts.append(Start(model, booking, because))
        else:
            self.room.claims.append(Claim(model, booking, (), because))
        self._victims = None
        return True

    def _cannot(self, model: str, candidate: Candidate, because: str) -> None:
        left = self.room.left_by_pins()
        stuck = not any(fits(booking, left) for booking in candidate.placements)
        nobody = "nothing that may leave would make enough room"
        self.waits.append(Wait(model, f"{because}; {nobody}", stuck))

    def _evict(self, model: str, eviction: Eviction, because: str) -> None:
        states = [self._state_of(v) for v in eviction.victims]
        for victim, state in zip(eviction.victims, states, strict=True):
            self._drain(victim, f"{model}: {because}; {state}")
        names = tuple(v.model for v in eviction.victims)
        because = "; ".join([because, *states])
        self.room.claims.append(Claim(model, eviction.booking, names, because))
        self._victims = None

    def _drain(self, resident: Resident, because: str) -> None:
        self.room.told_to_go.add(resident.model)
        self._victims = None
        self.drains.append(Drain(resident.model, because))

    def _backs_off(self, model: str, candidate: Candidate) -> bool:
        left = candidate.retry_at - self.facts.now
        if left > 0:
            self._ask_again(candidate.retry_at)
            self._wait(model, f"its last load failed; the next try is in {left:.0f} s")
        return left > 0

    # Models that nobody waits for.

    def _let_go_whose_time_is_over(self) -> None:
        """Unused for as long as they are kept."""
        for resident in self.facts.residents.values():
            idle = resident.phase is Phase.READY and not is_busy(self.facts, resident)
            if not idle or self.room.leaves(resident):
                continue
            if self.facts.now < resident.expires_at:
                self._ask_again(resident.expires_at)
            else:
                unused = self.facts.now - resident.last_used
                self._drain(resident, f"nobody has used it for {unused:.0f} s")

    def _extras(self) -> list[str]:
        """Those that are not here, while nobody else waits for room."""
        if any(self._has_nothing(model) for model in self.facts.wants):
            return []
        return [model for model in self.facts.extras if self._has_nothing(model)]

    def _bring_back(self, model: str) -> None:
        """Where there is room; a standby also once those that came in its place are idle."""
        candidate, because = self.facts.candidates[model], "kept ready while nobody waits"
        if self._backs_off(model, candidate):
            return
        if self._start_where_there_is_room(model, candidate, because) or not candidate.standby:
            return
        victims = self._possible_victims()
        eviction = victims.cheapest(candidate, NOBODY, self._stay_for_nobody())
        if eviction is None:
            return
        at = max(eviction.at, self._idle_for_a_visit(eviction))
        if at <= self.facts.now:
            self._evict(model, eviction, because)
        elif at < math.inf:  # none of them is busy
            names = ", ".join(v.model for v in eviction.victims)
            left = self._until(at)
            self._wait(model, f"{because}: in {left:.0f} s, if {names} stays idle")

    def _stay_for_nobody(self) -> set[str]:
        """Who does not leave for a model that nobody waits for."""
        here = self.facts.residents.values()
        return {r.model for r in here if r.standby or r.phase is Phase.STARTING}

    def _idle_for_a_visit(self, eviction: Eviction) -> float:
        """When their idleness has lasted as long as somebody would have had to wait for it: two
        times the way there, and the way back that their next request would cost."""
        back = max(v.load_s for v in eviction.victims)
        idle_since = max(v.last_used for v in eviction.victims)
        return idle_since + VISIT * (eviction.cost + back)

    # What is said.

    def _wait(self, model: str, because: str) -> None:
        self.waits.append(Wait(model, because))

    def _ask_again(self, at: float) -> None:
        self.deadline = min(self.deadline, at)

    def _until(self, at: float) -> float:
        """Seconds, after which this is planned again."""
        self._ask_again(at)
        return at - self.facts.now

    def _waiting_for(self, want: Want) -> str:
        if want.by_hand:
            return "asked for by hand"
        return f"{want.count} waiting, oldest {self.facts.now - want.oldest:.1f} s"

    def _state_of(self, resident: Resident) -> str:
        if is_busy(self.facts, resident):
            return f"{resident.model} has had its visit"
        return f"{resident.model} idle for {self.facts.now - resident.last_used:.0f} s"
