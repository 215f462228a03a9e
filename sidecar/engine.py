"""What a box knows of one model and its engine: records, and what the shell is to do.

Rule: nothing is decided here; `machine.py` owns the phase, `planner.py` residency.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from shared.status import MemorySource, Phase
from sidecar.estimate import UNKNOWN_LOAD, History, Load
from sidecar.failure import Exit
from sidecar.habits import Habits
from sidecar.machine import Effect, Limits, Machine
from sidecar.memory import Bytes, Need, does_not_fit, placements
from sidecar.needs import learned
from sidecar.plan import Candidate, Resident
from sidecar.visits import grace

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
    keep_alive: float = math.inf  # seconds without a request, after which it leaves
    standby: bool = False  # it is loaded while nobody else wants the room
    elsewhere: bool = False  # its process stands for one that we cannot see, as `docker run` does


@dataclass(frozen=True, slots=True)
class Left:
    """An engine that an earlier sidecar has left here."""

    booking: Bytes
    serves: bool


@dataclass(slots=True)
class Engine:
    """One model's engine, now or last time."""

    model: Model
    machine: Machine
    history: History
    placements: tuple[Bytes, ...] = ()  # each way in which the box could ever hold it
    misfit: str = ""  # why there is none
    source: MemorySource = "unknown"  # of what they say
    booking: Bytes = field(default_factory=dict)
    because: str = ""  # why it was last told to come or to go
    load: Load | None = None  # that is under way
    least_stay: float = 0.0  # seconds after it became ready
    habits: Habits = field(default_factory=Habits)
    keep_alive: float | None = None  # as the last request wished; None: as configured
    dismissed: bool = False  # by hand: it does not come back by itself
    leader: int | None = None  # of its processes' session, as far as it is known
    again: bool = False  # its load ran out of memory, and is tried once more

    def place(
        self, capacity: Bytes, uuids: Mapping[str, str], trouble: str | None, peaks: Bytes
    ) -> bool:
        """Where the box could hold it now. `peaks`: the most that it took of each pool. True if
        that has changed."""
        need, before, blind = self.model.need, (self.placements, self.misfit), trouble is not None
        guesses = placements(need, capacity, uuids, blind=blind)
        self.placements, self.source = learned(need, guesses, capacity, peaks)
        self.misfit = ""
        if not self.placements:
            self.misfit = does_not_fit(need, capacity, uuids, blind=blind) + _why(need, trouble)
        return before != (self.placements, self.misfit)

    @property
    def may_run(self) -> bool:
        """Somewhere on this box, or it runs already: on a GPU that is lost, for one."""
        return bool(self.placements or self.booking)

    def candidate(self, whole_box: Bytes) -> Candidate:
        """What the planner must know to start it."""
        possible = self.placements
        if self.takes_whole_box:
            possible = tuple({pool: whole_box[pool] for pool in it} for it in possible)
        # One that cannot be loaded must not send others away again and again.
        standby = self.model.standby and not self.machine.failures
        retry_at = self.machine.retry_at
        return Candidate(possible, self.load_s, retry_at, standby, self.again)

    @property
    def takes_whole_box(self) -> bool:
        return self.source == "unknown"

    @property
    def need(self) -> int | None:
        """Bytes: what it has booked, or will; None: the whole box."""
        if self.takes_whole_box or self.source == "declared":
            return self.model.need.bytes
        possible = (self.booking,) if self.booking else self.placements
        return max((sum(one.values()) for one in possible), default=self.model.need.bytes)

    def resident(self, room: Bytes, now: float) -> Resident:
        """What the planner must know while it has a process. `room`: what nobody else may have."""
        machine = self.machine
        starting = machine.phase is Phase.STARTING
        return Resident(
            model=self.model.id,
            phase=machine.phase,
            booking=room,
            in_flight=machine.in_flight,
            slots=self.model.slots,
            ready_at=max(now, machine.since + self.load_s) if starting else machine.ready_at,
            last_used=machine.last_used,
            stop_s=self.history.stop or 0.0,
            service_s=self.history.service or 0.0,
            pinned=self.model.pinned,
            unkillable=machine.unkillable,
            load_s=self.load_s,
            rate=self.habits.rate(now),
            returns=self.habits.returns,
            expires_at=self.expires_at,
            standby=self.model.standby,
        )

    @property
    def load_s(self) -> float:
        """As the planner reckons, who needs a number."""
        return self.history.load_estimate()[0] or UNKNOWN_LOAD

    @property
    def expires_at(self) -> float:
        """When it leaves if nobody uses it until then. A standby stays, and what is pinned."""
        if self.model.standby or self.model.pinned:
            return math.inf
        keep = self.model.keep_alive if self.keep_alive is None else self.keep_alive
        return max(self.machine.last_used + keep, self.machine.ready_at + self.least_stay)

    @property
    def may_expire(self) -> bool:
        """Nobody uses it, and it is not kept for ever."""
        return not self.machine.in_flight and self.expires_at < math.inf

    def asked(self, now: float) -> None:
        """Somebody wants it."""
        self.habits.asked(grace(self.load_s, self.history.stop or 0.0), now)

    def admit(self, now: float, keep_alive: float | None, *, closing: bool) -> Refusal | None:
        """Count a request in, or say why not."""
        if not closing and self.machine.admit(self.model.slots, now):
            self.asked(now)
            self.habits.admitted(now)
            self.keep_alive = keep_alive
            return None
        if self.machine.phase is Phase.READY:
            return "draining" if closing else "busy"
        return "draining" if self.machine.phase is Phase.SWITCHING else "not_ready"

    def release(self, began: float, now: float, *, wanted: bool) -> list[Effect]:
        self.history.served(now - began)
        effects = self.machine.release(now)
        if not (self.machine.in_flight or wanted):
            self.habits.went_idle(now)
        return effects

    def tries_again(self, exit: Exit | None) -> bool:
        """Whether the end of its load is no failure yet: the first that died of memory is not."""
        loads = self.machine.phase is Phase.STARTING
        return loads and not self.again and exit is not None and exit.cause == "vram_oom"

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
        elif before is Phase.STOPPING and phase is Phase.IDLE and not self.machine.died:
            self.history.stopped(now - since)
            return True
        return False


def _why(need: Need, trouble: str | None) -> str:
    """What the drivers have to do with it."""
    if trouble is None or need.on_host:
        return ""
    instead = "; `gpus: none` would run it on the host" if need.gpus is None else ""
    return f" ({trouble}{instead})"


def engine_of(model: Model, least_stay: float, now: float) -> Engine:
    """One that was never started."""
    machine, history = Machine(model.limits, now), History(model.size)
    return Engine(model, machine, history, least_stay=least_stay)


class Unsettled(Exception):
    """What has happened is in the tables; what follows of it could not be decided, by a fault of
    ours. `effects`: what is to be done all the same."""

    def __init__(self, effects: list[Do]) -> None:
        super().__init__()
        self.effects = effects


@dataclass(frozen=True, slots=True)
class Do:
    """An effect on one model's engine; `booking` says where its memory is."""

    model: str
    effect: Effect
    booking: Bytes
