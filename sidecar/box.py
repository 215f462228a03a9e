"""One box: its engines, its memory and what routers want from it; facts in, effects out.

Rule 1: the life of an engine is `machine.py`'s, residency is `planner.py`'s; this file feeds them
the same facts and carries what one decides to the other.
Rule 2: this file does no I/O, reads no clock and never awaits.

Every method that is told what happened ends in `_settle`, and returns what to do about it, or
raises Unsettled.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from shared.demand import Demand
from shared.status import Phase
from sidecar.demand import Want
from sidecar.engine import Do, Engine, Left, Model, Refusal, Unsettled
from sidecar.estimate import Measured
from sidecar.failure import Exit, LogTail
from sidecar.lives import Lives
from sidecar.machine import Fact
from sidecar.memory import NO_UUIDS, Bytes, Memory, add
from sidecar.plan import Plan, Rules, Wait
from sidecar.switches import Switches

NOTHING_SAID: Mapping[str, LogTail] = {}


class Box(Lives):
    def __init__(
        self,
        name: str,
        boot: str,
        models: Mapping[str, Model],
        capacity: Bytes,
        rules: Rules,
        now: float,
    ) -> None:
        super().__init__(models, rules, now)
        self.name = name
        self.boot = boot
        self.switches = Switches(boot)
        self.waits: tuple[Wait, ...] = ()
        self.seq = 0
        self.closing = False
        self.trouble: str | None = None  # with writing down which engines run
        self._replan_at = math.inf
        self._settled_until = -math.inf  # if nothing happens before
        self.supplied(capacity)

    # What happens.

    def recall(self, measured: Mapping[str, Measured]) -> None:
        """What an earlier sidecar has measured on this box."""
        for model, known in measured.items():
            self.engines[model].history.measured = known
        self.ledger.recalled()

    def adopt(self, left: Mapping[str, Left], now: float) -> list[Do]:
        """By model, what an earlier sidecar has left here. It is kept if it serves and has its
        room. Nothing else is decided before the first look at the memory."""
        effects: list[Do] = []
        taken: Bytes = {}
        for model, it in left.items():
            engine = self.engines[model]
            engine.booking = self.ledger.as_measured(engine, it.booking)
            taken = add([taken, engine.booking])
            stays = it.serves and self.inventory.has_room_for(taken)
            engine.because = "taken over" if stays else "left behind by an earlier sidecar"
            self.ledger.adopted(engine)
            effects += self.tell(engine, Fact.ADOPTED if stays else Fact.LEFT_BEHIND, now)
        return effects

    def supplied(
        self, capacity: Bytes, uuids: Mapping[str, str] = NO_UUIDS, trouble: str | None = None
    ) -> None:
        """What engines may take, before what others take of it is told by `looked`: GPUs come,
        get lost (`trouble` says why) and come back. Engines on one that is lost live on."""
        self.news |= self.inventory.supplied(capacity, uuids, trouble)

    def heard(self, router: str, demand: Demand, now: float) -> list[Do]:
        if self.demands.heard(router, demand, now):
            self.changed = True
            for model in demand.models.keys() & self.engines.keys():
                if any(demand.models[model].waiting.values()):
                    self.engines[model].asked(now)
        return self._settle(now)

    def admit(
        self, model: str, router: str | None, now: float, keep_alive: float | None = None
    ) -> Refusal | None:
        """Count a request in, or say why not. Each None needs one `release`. `keep_alive`: how
        long the engine shall stay when nobody uses it, if the request has a wish."""
        self.changed = True
        refusal = self.engines[model].admit(now, keep_alive, closing=self.closing)
        if router is not None and refusal is None:
            self.demands.admitted(router, model)
        elif router is not None:
            self.demands.refused(router, model, now)
        return refusal

    def release(self, model: str, began: float, now: float) -> list[Do]:
        engine = self.engines[model]
        self.news |= engine.machine.in_flight >= engine.model.slots  # it has a free slot again
        effects = engine.release(began, now, wanted=self.inventory.is_wanted(model, now))
        self.changed = True
        if not effects and self._stays_as_it_is(engine, now):
            return []
        return self._settle(now, self.do(engine, effects))

    def saw(self, model: str, fact: Fact, now: float, exit: Exit | None = None) -> list[Do]:
        """An engine's process did something."""
        engine = self.engines[model]
        if fact is Fact.EXITED:
            return self._settle(now, self.ended(engine, now, exit))
        return self._settle(now, self.tell(engine, fact, now, exit))

    def progressed(self, model: str, value: float, now: float) -> list[Do]:
        """The engine says how far its load is, from 0 to 1."""
        engine = self.engines[model]
        if engine.load is not None and engine.load.reports(value, now):
            engine.machine.sign_of_life(now)
            self.changed = True
        return self._settle(now)

    def sign_of_life(self, model: str, now: float) -> None:
        self.engines[model].machine.sign_of_life(now)

    def looked(self, seen: Memory, leaders: Mapping[str, int], now: float) -> list[Do]:
        """What memory there is and who takes it. `leaders`: the process that leads the session of
        each model's engine."""
        self.changed = True  # what is used changes by itself
        self.ledger.look(seen, leaders)
        self.learned |= self.ledger.learned
        self.ledger.learned = False
        return self._settle(now, self.freed(now))

    def overdue(self, now: float) -> list[str]:
        """Models whose engines have taken too long for their phase."""
        return [id for id, e in self.inventory.moving.items() if now >= e.machine.deadline]

    def tick(self, now: float, said: Mapping[str, LogTail] = NOTHING_SAID) -> list[Do]:
        """`said`: the last lines of those that are `overdue`."""
        effects = []
        for id in self.overdue(now):
            engine = self.engines[id]
            engine.because = f"{engine.machine.phase} took too long"
            late = Exit("stalled", engine.because, said.get(id, ()))
            effects += self.tell(engine, Fact.OVERDUE, now, late)
        return self._settle(now, effects + self.freed(now))

    def deadline(self, now: float) -> float:
        """When to call `tick` if nothing happens before."""
        phases = [engine.machine.deadline for engine in self.inventory.moving.values()]
        return min(self._replan_at, self.ledger.deadline, self.demands.deadline(now), *phases)

    # By hand.

    def load(self, model: str, now: float) -> list[Do]:
        """Counts as one waiting request of the highest priority until it is ready."""
        self._asked_for(model, now)
        return self._settle(now)

    def unload(self, model: str, now: float) -> list[Do]:
        """Drain and stop. With requests waiting, it starts again by itself."""
        engine = self.engines[model]
        engine.dismissed = True
        return self._settle(now, self._send_away(engine, now, "unloaded by hand"))

    def switch(self, model: str, now: float) -> list[Do]:
        """This model, and no other but the pinned ones."""
        if self.closing:
            return []
        others = [e for e in self.engines.values() if e.model.id != model and not e.model.pinned]
        leaving = tuple(engine.model.id for engine in others if engine.booking)
        effects: list[Do] = []
        for engine in others:
            engine.dismissed = True
            effects += self._send_away(engine, now, f"switched to {model} by hand")
        if self.engines[model].machine.phase is Phase.IDLE:
            self.news |= self.switches.begin(model, leaving, now)
        self._asked_for(model, now)
        return self._settle(now, effects)

    def close(self, now: float, *, keep: bool = False) -> list[Do]:
        """Admit nobody, let what runs come to its end, then stop every engine, or leave them for
        the next sidecar."""
        self.closing = self.news = True
        self.inventory.claims, self.waits = (), ()
        self.ledger.close(now)
        self.switches.clear()
        effects: list[Do] = []
        if keep:
            return effects
        for engine in self.engines.values():
            effects += self.let_go(engine, now, "the sidecar is shutting down")
        return effects

    def wrote(self, trouble: str | None) -> None:
        """Which engines run, for whoever comes after us; `trouble`: why that could not be done."""
        self.news |= trouble != self.trouble
        self.trouble = trouble

    def found(self, obstacles: Mapping[str, Exit], now: float) -> list[Do]:
        """A look at the files has shown what cannot be started."""
        self.news |= obstacles != self.inventory.obstacles
        for gone in self.inventory.obstacles.keys() - obstacles.keys():
            self.engines[gone].machine.forgive(now)
        self.inventory.obstacles = obstacles
        return self._settle(now)

    def fit_problem(self, model: str) -> str | None:
        """Why this box can never hold the model, if so."""
        engine = self.engines[model]
        return None if engine.may_run else f"{model} {engine.misfit}"

    # What follows.

    def _settle(self, now: float, effects: list[Do] | None = None) -> list[Do]:
        """Ask the planner what follows, and carry it out."""
        done = list(effects or ())
        try:
            self._plan(now, done)
        except Exception as error:
            raise Unsettled(done) from error
        return done

    def _plan(self, now: float, done: list[Do]) -> None:
        """What is to be done is added to `done`."""
        self.changed |= self.demands.forget_silent(now)
        wants = self._without_the_hopeless(self.inventory.wants(), now)
        if self.closing:
            self._replan_at = math.inf
            return
        self._carry_out(self.inventory.plan(wants, now), wants, now, done)

    def _without_the_hopeless(self, wants: dict[str, Want], now: float) -> dict[str, Want]:
        """Who waits for what cannot start is answered, and costs no other model its place."""
        hopeless = {m: exit for m in wants if (exit := self._hopeless(m, now))}
        for model, exit in hopeless.items():
            engine = self.engines[model]
            engine.machine.cannot_start(exit, now)
            self.demands.by_hand.pop(model, None)
            self.news = True
        return {model: want for model, want in wants.items() if model not in hopeless}

    def _hopeless(self, model: str, now: float) -> Exit | None:
        """Why its load has failed before it began. What has its room already is on its way."""
        engine, unkillable = self.engines[model], self.inventory.unkillable_for(model)
        if engine.booking and not engine.machine.unkillable:
            return None
        return self.inventory.obstacles.get(model) or unkillable or self.ledger.hopeless(model, now)

    def _stays_as_it_is(self, engine: Engine, now: float) -> bool:
        """Whether the planner would find nothing new, as at the end of most requests."""
        if self.waits or self.switches or now >= self._settled_until:
            return False
        return not engine.may_expire and self.inventory.rests

    def _carry_out(self, decided: Plan, wants: Collection[str], now: float, done: list[Do]) -> None:
        stuck = [w.model for w in decided.waits if w.stuck and w.model in wants]
        self.news |= self.ledger.waits_for_others(stuck, now)
        self.news |= [w.model for w in decided.waits] != [w.model for w in self.waits]
        self.waits = decided.waits
        self._replan_at = decided.deadline
        self._settled_until = min(self._replan_at, self.demands.deadline(now))
        for keep in decided.keeps:
            done += self.tell(self._decided(keep.model, keep.because), Fact.KEPT, now)
        for claim in decided.claims:
            self.news |= self.switches.begin(claim.model, claim.victims, now)
        for drain in decided.drains:
            done += self.let_go(self.engines[drain.model], now, drain.because)
        for start in decided.starts:
            engine = self._decided(start.model, start.because)
            engine.booking = start.booking
            self.ledger.started(engine)
            self.news |= self.switches.begin(start.model, (), now)
            done += self.tell(engine, Fact.WANTED, now)
        claimed = {claim.model for claim in self.inventory.claims}
        self.news |= self.switches.end(claimed, wants, self.engines)
        self.switches.revise(self.engines, now)

    def _decided(self, model: str, because: str) -> Engine:
        engine = self.engines[model]
        engine.because = because
        return engine

    def _asked_for(self, model: str, now: float) -> None:
        """By hand."""
        if (machine := self.engines[model].machine).phase is not Phase.READY:
            machine.forgive(now)
            self.demands.by_hand[model] = now

    def _send_away(self, engine: Engine, now: float, because: str) -> list[Do]:
        """By hand: it does not go back, whoever else it makes room for."""
        self.inventory.sent_away(engine.model.id)
        return self.let_go(engine, now, because)
