"""What happens to requests and to engines, written down. Nothing is judged here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from router.queue import Ticket
from shared.status import Status
from sidecar.engine import Model
from sidecar.estimate import BYTES_PER_SECOND
from sidecar.failure import Exit
from sidecar.machine import Limits
from sidecar.memory import Bytes, Need, on_gpus
from tests.core.pair_net import Link

if TYPE_CHECKING:
    from tests.core.pair_sidecar import Sidecar

FIRST_BYTE = 0.5  # of an answer's time: when it begins


@dataclass(frozen=True)
class Program:
    """How the engine of one model behaves; times in seconds."""

    load: float = 2.0
    stop: float = 0.01
    answer: float = 0.3
    slots: int = 100
    need: int = 1
    takes: int | None = None  # of a GPU, really; None: its need
    on_host: bool = False  # it uses no GPU, even where there are some
    pinned: bool = False
    standby: bool = False
    keep_alive: float = math.inf
    fails: float = 0.0  # the chance that a load ends half way
    crashes: float = 0.0  # the chance that an answer ends its engine
    drain: float = 600.0  # the longest that it may take to finish what it has

    def model(self, id: str) -> Model:
        limits = Limits(start=600.0, stall=300.0, drain=self.drain, stop=10.0)
        need = Need(self.need, "estimated" if self.takes else "declared", self.on_host)
        size = int(self.load * BYTES_PER_SECOND)
        return Model(id, self.slots, need, limits, size, self.pinned, self.keep_alive, self.standby)


class Watcher(Protocol):
    """A router, as a sidecar sees it."""

    id: str
    links: Mapping[str, Link]  # by box

    def connected(self, sidecar: Sidecar) -> None: ...
    def lost(self, sidecar: Sidecar) -> None: ...
    def published(self, box: str, status: Status) -> None: ...
    def refused(self, offer: Offer, boot: str, seq: int) -> None: ...
    def unreachable(self, offer: Offer) -> None: ...
    def answered(self, offer: Offer, end: str) -> None: ...
    def waiting(self, model: str, box: str) -> list[Request]: ...


@dataclass(eq=False)
class Request:
    ticket: Ticket
    router: Watcher
    answer: float  # seconds that it takes
    then: Callable[[], None] | None = None  # what its client does next
    offer: Offer | None = None  # the last
    admitted: float | None = None  # at last
    refusals: int = 0
    breaks: int = 0  # how often its box was gone before its answer began
    ends: list[str] = field(default_factory=list)  # "answered", "left", or the code of an error
    ended: float = math.inf

    @property
    def wait(self) -> float:
        """Seconds until an engine took it, or until its end."""
        return (self.ended if self.admitted is None else self.admitted) - self.ticket.arrived


@dataclass(eq=False)
class Offer:
    """One sending of a request to one box."""

    request: Request
    box: str
    admitted: float | None = None
    launch: Launch | None = None  # the engine that took it

    @property
    def counts(self) -> bool:
        """Its client is still there, and it was not sent again since."""
        return self is self.request.offer and not self.request.ends

    def has_begun(self, now: float) -> bool:
        """The first bytes of its answer have come back."""
        takes = self.request.answer * FIRST_BYTE
        return self.admitted is not None and now >= self.admitted + takes


@dataclass(eq=False)
class Launch:
    """One process, from its start to its end."""

    box: str
    boot: str
    model: str
    booking: Bytes
    program: Program
    started: float
    why: str  # it was started
    looked_at: float  # when its box had last seen what others use
    waiting_at_start: list[Request]
    took_at: float = -math.inf  # its memory
    died_of: Exit | None = None  # what it does by itself
    ready: float | None = None
    waiting_when_ready: list[Request] = field(default_factory=list)
    told: float | None = None  # when it was told to go, however politely
    because: str = ""
    waiting_when_told: list[Request] = field(default_factory=list)
    in_flight_when_told: int = 0
    signalled: float | None = None
    in_flight_when_signalled: int = 0
    ended: float = math.inf
    served: int = 0
    served_after_told: int = 0
    serving: list[Offer] = field(default_factory=list)

    @property
    def surprises(self) -> bool:
        """It takes more of its GPUs than anybody knew when it started."""
        return any((self.program.takes or 0) > size for size in on_gpus(self.booking).values())

    @property
    def out_of_memory(self) -> bool:
        return self.died_of is not None and self.died_of.cause == "vram_oom"
