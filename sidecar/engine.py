"""What a box knows of one model and its engine: records, and what the shell is to do.

Rule: nothing is decided here; `machine.py` owns the phase, `planner.py` residency.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from shared.status import Phase
from sidecar.estimate import UNKNOWN_LOAD, History, Load
from sidecar.machine import Effect, Limits, Machine
from sidecar.memory import Bytes, Need
from sidecar.plan import Candidate, Resident

Refusal = Literal["not_ready", "busy", "draining"]


@dataclass(frozen=True, slots=True)
class Model:
    """What a box knows of a model before it was ever loaded."""

    id: str
    slots: int
    need: Need
    limits: Limits
    size: int | None = None  # bytes of its file
    pinned: bool = False


@dataclass(slots=True)
class Engine:
    """One model's engine, now or last time."""

    model: Model
    machine: Machine
    history: History
    placements: tuple[Bytes, ...]
    booking: Bytes = field(default_factory=dict)
    wanted_by_hand: float | None = None  # since when an operator waits for it
    because: str = ""  # why it was last told to come or to go
    load: Load | None = None  # that is under way

    def candidate(self, whole_box: Bytes) -> Candidate:
        """What the planner must know to start it."""
        load, _ = self.history.load_estimate()
        possible = (whole_box,) if self.model.need.bytes is None else self.placements
        return Candidate(possible, load or UNKNOWN_LOAD, self.machine.retry_at)

    def resident(self) -> Resident | None:
        """What the planner must know while it has a process; None while it has none."""
        machine = self.machine
        if machine.phase is Phase.IDLE:
            return None
        return Resident(
            model=self.model.id,
            phase=machine.phase,
            booking=self.booking,
            in_flight=machine.in_flight,
            slots=self.model.slots,
            ready_at=machine.ready_at,
            last_used=machine.last_used,
            stop_s=self.history.stop or 0.0,
            service_s=self.history.service or 0.0,
            pinned=self.model.pinned,
        )

    def admit(self, now: float, *, closing: bool) -> Refusal | None:
        """Count a request in, or say why not."""
        if not closing and self.machine.admit(self.model.slots, now):
            return None
        if self.machine.phase is Phase.READY:
            return "draining" if closing else "busy"
        return "draining" if self.machine.phase is Phase.SWITCHING else "not_ready"

    def learn(self, before: Phase, since: float, now: float) -> bool:
        """It was in the phase `before` until now. True if something was measured."""
        phase = self.machine.phase
        if phase is Phase.STARTING and before is not phase:
            self.load = self.history.begins(now)
        elif before is Phase.STARTING and phase is not before:
            load, self.load = self.load, None
            if phase is Phase.READY and load is not None:
                self.history.loaded(load, now)
                return True
        elif before is Phase.STOPPING and phase is Phase.IDLE:
            self.history.stopped(now - since)
            return True
        return False


@dataclass(frozen=True, slots=True)
class Do:
    """An effect on one model's engine; `booking` says where its memory is."""

    model: str
    effect: Effect
    booking: Bytes
