"""The engines of a box: what happens to one is told to its table, and to all who must know of it.

Rule 1: the life of an engine is `machine.py`'s; here the ledger and the inventory are told with it.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

from collections.abc import Mapping

from shared.status import Phase
from sidecar.demand import Demands
from sidecar.engine import Do, Engine, Model, engine_of
from sidecar.failure import Exit
from sidecar.inventory import Inventory
from sidecar.ledger import Ledger
from sidecar.machine import Effect, Fact
from sidecar.plan import Rules


class Lives:
    def __init__(self, models: Mapping[str, Model], rules: Rules, now: float) -> None:
        self.engines = {id: engine_of(m, rules.min_resident, now) for id, m in models.items()}
        self.ledger = Ledger(self.engines)
        self.demands = Demands(frozenset(models))
        self.inventory = Inventory(self.engines, self.demands, self.ledger, rules)
        self.news = True  # something that watchers must hear at once
        self.changed = True  # something that watchers may hear a little later
        self.learned = False  # something was measured that is worth keeping

    def tell(self, engine: Engine, fact: Fact, now: float, exit: Exit | None = None) -> list[Do]:
        machine, before, since = engine.machine, engine.machine.phase, engine.machine.since
        step = machine.step
        effects = machine.saw(fact, now, exit)
        self.news |= (machine.phase, machine.step) != (before, step)
        self.learned |= engine.learn(before, since, now)
        done = self.do(engine, effects)
        self._note_phase(engine, before, fact)
        return done

    def _note_phase(self, engine: Engine, before: Phase, fact: Fact) -> None:
        id, phase = engine.model.id, engine.machine.phase
        self.inventory.note(engine)
        load_ended = before is Phase.STARTING and phase is not before and fact is not Fact.RAN_OUT
        if phase is Phase.READY or load_ended:
            engine.again = False
            self.demands.by_hand.pop(id, None)
            self.inventory.preload.pop(id, None)

    def ended(self, engine: Engine, now: float, exit: Exit | None) -> list[Do]:
        """Its process is gone. It is idle once its memory is back."""
        waits = self.ledger.ended(engine, now)
        if engine.machine.unkillable:
            for other in self.engines.values():
                other.machine.recover(now)
        if not engine.tries_again(exit):
            return self.tell(engine, Fact.ENDED if waits else Fact.EXITED, now, exit)
        engine.again = True
        engine.because = "ran out of memory; one more model leaves and it is tried again"
        done = self.tell(engine, Fact.RAN_OUT, now)
        return done if waits else done + self.tell(engine, Fact.FREED, now)

    def freed(self, now: float) -> list[Do]:
        back = self.ledger.returned(now)
        return [do for id in back for do in self.tell(self.engines[id], Fact.FREED, now)]

    def let_go(self, engine: Engine, now: float, because: str) -> list[Do]:
        if engine.machine.phase is Phase.IDLE:
            return []
        engine.because = because
        return self.tell(engine, Fact.LET_GO, now)

    def do(self, engine: Engine, effects: list[Effect]) -> list[Do]:
        self.news |= bool(effects)
        return [Do(engine.model.id, effect, engine.booking) for effect in effects]
