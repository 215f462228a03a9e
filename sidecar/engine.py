"""What a box knows of one model and its engine: records, and what the shell is to do.

Rule: nothing is decided here; `machine.py` owns the phase, `planner.py` residency.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sidecar.estimate import History
from sidecar.machine import Effect, Limits, Machine
from sidecar.memory import Bytes, Need


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


@dataclass(frozen=True, slots=True)
class Switch:
    """A switch, from the first drain to the readiness of its model."""

    id: str
    to: str
    from_: tuple[str, ...]
    began: float


@dataclass(frozen=True, slots=True)
class Do:
    """An effect on one model's engine; `booking` says where its memory is."""

    model: str
    effect: Effect
    booking: Bytes
