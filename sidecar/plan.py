"""What goes into a plan and what comes out of it. `planner.py` makes the one of the other.

Rule: plain records; times are seconds of one monotonic clock, rooms are bytes by pool.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from shared.status import Phase
from sidecar.demand import Want
from sidecar.memory import Bytes


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the planner must know of a model that could be started."""

    placements: tuple[Bytes, ...]
    load_s: float
    retry_at: float = -math.inf
    standby: bool = False  # it comes back once those that came in its place are idle
    again: bool = False  # its last try died of memory: one more engine than it needs must leave


@dataclass(frozen=True, slots=True)
class Resident:
    """An engine that has a process, and the room that it takes."""

    model: str
    phase: Phase
    booking: Bytes  # or what it takes of its GPUs beyond that
    in_flight: int
    slots: int
    ready_at: float  # when it became ready, or will be
    last_used: float
    stop_s: float = 0.0
    service_s: float = 0.0
    pinned: bool = False
    load_s: float = 0.0
    rate: float = 0.0  # of its requests, per second
    returns: bool = False  # its next request mostly comes soon after it went idle
    unkillable: bool = False  # it leaves, and nobody can say when
    expires_at: float = math.inf  # when it leaves if nobody has used it until then
    standby: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """Room that is promised to `model` while its victims leave. First come, first served."""

    model: str
    booking: Bytes
    victims: tuple[str, ...]
    because: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What the config says of the planning. Times in seconds."""

    patience: float
    min_resident: float = 0.0
    preload: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    now: float
    capacity: Bytes
    candidates: Mapping[str, Candidate]
    residents: Mapping[str, Resident]
    wants: Mapping[str, Want]
    due: Mapping[str, int]
    claims: tuple[Claim, ...]
    rules: Rules
    extras: tuple[str, ...] = ()  # models that belong here while nobody else wants the room
    # GPUs where only a difference tells what an engine takes: no two starts at a time on each.
    one_start_at_a_time: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Start:
    model: str
    booking: Bytes
    because: str


@dataclass(frozen=True, slots=True)
class Drain:
    model: str
    because: str


@dataclass(frozen=True, slots=True)
class Keep:
    """A victim that need not leave after all."""

    model: str
    because: str


@dataclass(frozen=True, slots=True)
class Wait:
    """A model that waits for now: nothing is done, and this is why."""

    model: str
    because: str
    stuck: bool = False  # whoever leaves: others hold the room


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, and `deadline`: when to ask again if nothing happens before."""

    starts: tuple[Start, ...] = ()
    drains: tuple[Drain, ...] = ()
    keeps: tuple[Keep, ...] = ()
    claims: tuple[Claim, ...] = ()
    waits: tuple[Wait, ...] = ()
    deadline: float = math.inf
