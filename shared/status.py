"""What a sidecar says about its box: one whole, numbered snapshot.

Rule 1: both programs read these words here, and nowhere else.
Rule 2: a Status is never a difference; the newest one replaces all before it.

Bytes are plain integers, times are seconds, `at` is Unix time. Readers ignore fields that they
do not know, so that a router works with sidecars one minor version older and newer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated

from pydantic import Field, TypeAdapter


class Phase(StrEnum):
    """The life of one engine; the box shows the busiest of its engines'."""

    IDLE = "idle"  # no process
    STARTING = "starting"  # a process that is not ready
    READY = "ready"  # serves requests
    SWITCHING = "switching"  # finishes what it has and takes no more
    STOPPING = "stopping"  # told to go, until its memory is really back


# The phase of a box is the first of these that any of its engines is in.
BUSIEST_FIRST = (Phase.SWITCHING, Phase.STOPPING, Phase.STARTING, Phase.READY, Phase.IDLE)

SERVING = (Phase.READY, Phase.SWITCHING)  # the engine is up
LEAVING = (Phase.SWITCHING, Phase.STOPPING)  # it was told to go


class Step:
    """What is going on, in words that a person can read. The only place that spells them."""

    STARTING = "starting new model"
    AWAITING_READINESS = "waiting for readiness"
    DRAINING = "finishing current requests"
    STOPPING = "stopping current model"
    AWAITING_TURN = "waiting for a turn"
    AWAITING_SLOT = "waiting for a slot"
    AWAITING_VRAM = "waiting for VRAM"  # that others hold, or that has not come back yet
    AWAITING_BOX = "waiting for its box"  # which cannot be reached at the moment


# Text, not literals: a reader must not lose a box over a word that a newer sidecar uses.
ProgressSource = str  # engine, io, vram, history
MemorySource = str  # declared, learned, estimated, unknown
LoadSource = str  # history, size, unknown
EtaSource = str  # history, size, engine (corrected by its progress)
PlanAction = str  # start, drain, wait


@dataclass(frozen=True, slots=True)
class LoadError:
    """Why an engine is not there although it was wanted. `code` as in the table of errors."""

    code: str
    cause: str
    message: str
    at: float
    retry_in_s: float | None = None
    log_tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelStatus:
    id: str
    phase: Phase = Phase.IDLE
    step: str | None = None
    in_flight: int = 0
    slots: int = 1
    waiting: int = 0
    routers: int = 0  # how many routers want it
    memory_bytes: int | None = None
    memory_source: MemorySource = "unknown"
    measured_bytes: int | None = None  # the most that its engine was seen to take
    load_s: float | None = None
    load_source: LoadSource = "unknown"
    progress: float | None = None
    progress_source: ProgressSource | None = None
    eta_s: float | None = None
    eta_source: EtaSource | None = None
    service_s: float | None = None  # of an answer, the mean
    ready_in_s: float | None = None  # were it asked for now; None: never, or nobody knows
    disturbs_s: float = 0.0  # what making its room would cost other models
    pinned: bool = False
    expires_in_s: float | None = None
    gpus: tuple[int, ...] = ()
    error: LoadError | None = None

    def without_logs(self) -> ModelStatus:
        return replace(self, error=self.error and replace(self.error, log_tail=()))


@dataclass(frozen=True, slots=True)
class Switch:
    """The whole way from the first drain to the readiness of `to`: one story."""

    id: str
    to: str
    phase: Phase
    step: str | None
    elapsed_s: float
    from_: Annotated[tuple[str, ...], Field(alias="from")] = ()
    progress: float | None = None
    progress_source: ProgressSource | None = None
    eta_s: float | None = None
    eta_source: EtaSource | None = None


@dataclass(frozen=True, slots=True)
class MemoryRow:
    kind: str  # gpu, host
    total: int
    used: int
    free: int
    reserved: int  # by engines of ours, by the ledger
    strangers: int  # used by others
    index: int | None = None
    uuid: str | None = None
    name: str | None = None
    utilisation: int | None = None  # percent


@dataclass(frozen=True, slots=True)
class PlanEntry:
    action: PlanAction
    model: str
    because: str


@dataclass(frozen=True, slots=True)
class Status:
    """`seq` grows with every change within one `boot`, the life of one sidecar process."""

    v: int
    box: str
    boot: str
    seq: int
    at: float
    phase: Phase = Phase.IDLE
    step: str | None = None
    model: str | None = None
    switches: tuple[Switch, ...] = ()
    models: tuple[ModelStatus, ...] = ()
    memory: tuple[MemoryRow, ...] = ()
    plan: tuple[PlanEntry, ...] = ()
    problems: tuple[str, ...] = ()

    def switch_to(self, model: str) -> Switch | None:
        return next((s for s in self.switches if s.to == model), None)

    def without_logs(self) -> Status:
        """As it is shown to those who may not read the log of an engine."""
        return replace(self, models=tuple(model.without_logs() for model in self.models))

    def to_json(self) -> bytes:
        return _STATUS.dump_json(self, by_alias=True)

    @classmethod
    def from_json(cls, raw: bytes | str) -> Status:
        """Raises ValueError on anything that is not a Status."""
        return _STATUS.validate_json(raw)


_STATUS = TypeAdapter(Status)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What does not change while a sidecar runs: `GET /models`."""

    id: str
    engine: str
    served_name: str  # what the engine is told as `model`
    context_length: int | None
    slots: int
    file: str | None = None
    size: int | None = None  # bytes of the file
    quantisation: str | None = None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every model that one box may serve. `boot` tells whose it is."""

    box: str
    boot: str
    models: tuple[ModelFacts, ...]

    def to_json(self) -> bytes:
        return _CATALOGUE.dump_json(self)

    @classmethod
    def from_json(cls, raw: bytes | str) -> Catalogue:
        """Raises ValueError on anything that is not a Catalogue."""
        return _CATALOGUE.validate_json(raw)


_CATALOGUE = TypeAdapter(Catalogue)
