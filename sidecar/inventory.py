"""How a box stands: its engines, its room, and who waits; and so what the planner is told.

Rule 1: residency is `planner.py`'s; here what several owners know is put side by side for it.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from shared.status import Phase
from sidecar.demand import Demands, Want
from sidecar.engine import Engine
from sidecar.failure import Exit
from sidecar.ledger import Ledger
from sidecar.memory import Bytes, add, fits, on_gpus, subtract, with_lost
from sidecar.plan import Candidate, Claim, Facts, Plan, Rules
from sidecar.planner import plan
from sidecar.prospects import Outlook, Prospect


class Inventory:
    def __init__(
        self, engines: Mapping[str, Engine], demands: Demands, ledger: Ledger, rules: Rules
    ) -> None:
        self.engines = engines
        self.running: dict[str, Engine] = {}  # those that have a process
        self.moving: dict[str, Engine] = {}  # of those, the ones that do not stay as they are
        self.capacity: Bytes = {}  # what engines may take, by pool
        self.claims: tuple[Claim, ...] = ()
        self.obstacles: Mapping[str, Exit] = {}  # models that cannot be started, and why
        self.preload = dict.fromkeys(rules.preload)  # those that were not tried yet, in order
        self.left_out: list[str] = []  # preloads for which there was no room
        self._demands, self._ledger, self._rules = demands, ledger, rules
        self._standbys = tuple(id for id, e in engines.items() if e.model.standby)
        self._outlook = Outlook()

    def supplied(self, capacity: Bytes, uuids: Mapping[str, str], trouble: str | None) -> bool:
        """What engines may take now. True if that changes where one could be."""
        self.capacity = with_lost(capacity, self.capacity)
        self.claims = tuple(claim for claim in self.claims if fits(claim.booking, self.capacity))
        news = self._ledger.supplied(self.capacity, uuids, trouble)
        for id in self.engines:
            self._drop_a_load_by_hand_that_cannot_be(id)
        return news

    def has_room_for(self, bookings: Bytes) -> bool:
        """On the GPUs that are seen: of the others nothing can be said."""
        return fits({p: size for p, size in bookings.items() if p in self.capacity}, self.capacity)

    def note(self, engine: Engine) -> None:
        """Its phase may have changed."""
        id, phase = engine.model.id, engine.machine.phase
        if phase is Phase.IDLE:
            engine.booking, engine.keep_alive = {}, None
            self.running.pop(id, None)
            self._drop_a_load_by_hand_that_cannot_be(id)
        else:
            self.running[id] = engine
        if phase is Phase.READY:
            engine.dismissed = False
            self.left_out = [other for other in self.left_out if other != id]
        if phase in (Phase.READY, Phase.IDLE):
            self.moving.pop(id, None)
        else:
            self.moving[id] = engine

    def sent_away(self, id: str) -> None:
        """By hand: nobody waits for it by hand any more, and it goes for its own sake."""
        self._demands.by_hand.pop(id, None)
        self.claims = tuple(
            replace(claim, victims=tuple(v for v in claim.victims if v != id))
            for claim in self.claims
        )

    @property
    def rests(self) -> bool:
        """Whether all are here that somebody waits for, or that belong here: where no switch is
        under way, a plan could do no more then than let those go whose time is over."""
        wanted = (*self._standbys, *self._demands.wanted())
        return all(model in self.running for model in wanted)

    def is_wanted(self, model: str, now: float) -> bool:
        """By somebody who waits for it, or whose request is on its way."""
        if model in self._demands.wanted() and model in self.wants():
            return True
        return model in self._demands.due(now)

    def plan(self, wants: Mapping[str, Want], now: float) -> Plan:
        """What the planner makes of it."""
        facts = self.facts(wants, now)
        decided = plan(facts)
        self.claims = decided.claims
        if all(model in facts.residents for model in facts.wants):
            self._leave_out(facts, decided)
        return decided

    def _leave_out(self, facts: Facts, decided: Plan) -> None:
        """A preload that finds no room is none any more: much later nobody would expect it."""
        coming = {start.model for start in decided.starts}
        coming |= {claim.model for claim in decided.claims}
        for model in facts.extras:
            if model in self.preload and model not in coming:
                del self.preload[model]
                self.left_out.append(model)

    def _drop_a_load_by_hand_that_cannot_be(self, id: str) -> None:
        """Its misfit is the answer: it must not come hours later, when a lost GPU is back."""
        if not self.engines[id].may_run:
            self._demands.by_hand.pop(id, None)

    def wants(self) -> dict[str, Want]:
        """All who wait for a model that this box can hold, operators among them."""
        wants = self._demands.wants(lambda id: self.engines[id].machine.load_failed_at)
        return {id: want for id, want in wants.items() if self.engines[id].may_run}

    def facts(self, wants: Mapping[str, Want], now: float) -> Facts:
        extras = self._extras(wants)
        return Facts(
            now=now,
            capacity=self._whole_box(),
            candidates=self._candidates({*wants, *extras, *(c.model for c in self.claims)}),
            residents={
                id: engine.resident(self._ledger.room_of(engine), now)
                for id, engine in self.running.items()
            },
            wants=wants,
            due=self._demands.due(now),
            claims=tuple(self._as_large_as_now(claim) for claim in self.claims),
            rules=self._rules,
            extras=extras,
            one_start_at_a_time=self._ledger.one_start_at_a_time,
        )

    def unkillable_for(self, model: str) -> Exit | None:
        """Why it can be nowhere, while engines that cannot be ended hold their room."""
        stuck, engine = self._unkillable(), self.engines[model]
        if not stuck:
            return None
        pinned = add(e.booking for e in self.running.values() if e.model.pinned)
        without = subtract(self.capacity, pinned)
        room = subtract(self._not_fenced(without), add(e.booking for e in stuck))
        could = any(fits(booking, without) for booking in engine.placements)
        can = any(fits(booking, room) for booking in engine.placements)
        if engine not in stuck and (can or not could):
            return None
        names = " and ".join(e.model.id for e in stuck)
        return Exit("unkillable", f"{names} cannot be ended, and holds its room")

    def _unkillable(self) -> list[Engine]:
        return [engine for engine in self.moving.values() if engine.machine.unkillable]

    def _not_fenced(self, room: Bytes) -> Bytes:
        """Nothing is started on a GPU where a process cannot be ended: the GPU itself may hang."""
        fenced = add(on_gpus(engine.booking) for engine in self._unkillable())
        return {pool: 0 if pool in fenced else size for pool, size in room.items()}

    def prospects(self, wants: Mapping[str, Want], now: float) -> Mapping[str, Prospect]:
        """By model: when it could be ready, and what that would cost others."""
        possible = (id for id, engine in self.engines.items() if engine.placements)
        return self._outlook.of(self.facts(wants, now), lambda: self._candidates(possible))

    def _candidates(self, models: Iterable[str]) -> dict[str, Candidate]:
        whole_box = self._whole_box()
        return {id: self.engines[id].candidate(whole_box) for id in models}

    def _extras(self, wants: Mapping[str, Want]) -> tuple[str, ...]:
        """Models that belong here while nobody else wants the room, and are not here."""
        return tuple(
            id
            for id in dict.fromkeys((*self.preload, *self._standbys))
            if id not in self.running and id not in wants and self._may_come_back(id)
        )

    def _may_come_back(self, id: str) -> bool:
        engine = self.engines[id]
        return bool(engine.placements) and id not in self.obstacles and not engine.dismissed

    def _as_large_as_now(self, claim: Claim) -> Claim:
        """As it was made, unless it is on all that there is of some pools."""
        if self.engines[claim.model].takes_whole_box:
            whole = self._whole_box()
            return replace(claim, booking={pool: whole[pool] for pool in claim.booking})
        return claim

    def _whole_box(self) -> Bytes:
        """What engines may take, but for what strangers took."""
        return self._not_fenced(subtract(self.capacity, self._ledger.strangers))
