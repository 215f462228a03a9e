"""The life of one engine, as a table.

Rule 1: everything that can change the phase is in this file.
Rule 2: this file does no I/O, reads no clock and never awaits.

A method is told what happened and returns what to do about it. After any call, `deadline` says
when it is `OVERDUE` if nothing happens before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from shared.status import SERVING, Phase, Step
from sidecar.again import Force, backoff
from sidecar.failure import Cause, Exit, Failure, LogTail

IDLE, STARTING, READY = Phase.IDLE, Phase.STARTING, Phase.READY
SWITCHING, STOPPING = Phase.SWITCHING, Phase.STOPPING


class Fact(Enum):
    """What can happen to an engine."""

    WANTED = auto()  # the planner gives it its room
    ADOPTED = auto()  # an earlier sidecar's engine serves on
    LEFT_BEHIND = auto()  # an earlier sidecar's engine is of no use
    ALIVE = auto()  # the process answers or reports at all
    HEALTHY = auto()  # it can serve
    LET_GO = auto()  # the room is needed, or somebody asked for it
    KEPT = auto()  # the room is not needed after all
    OVERDUE = auto()  # the deadline of its phase has passed
    STALLED = auto()  # it has requests, and says nothing to any of them
    HEADLESS = auto()  # the main process is gone, and others of it do not end
    EXITED = auto()  # the process is gone
    ENDED = auto()  # the process is gone, and its memory is not back yet
    RAN_OUT = auto()  # its load ran out of memory, and is tried once more
    FREED = auto()  # the memory of a process that is gone is back


# What the outside world does to an engine. A pair that is not here is an error.
ON_FACT: dict[tuple[Phase, Fact], Phase] = {
    (IDLE, Fact.WANTED): STARTING,
    (IDLE, Fact.ADOPTED): READY,
    (IDLE, Fact.LEFT_BEHIND): STOPPING,
    (IDLE, Fact.STALLED): IDLE,  # it is gone
    (STARTING, Fact.ALIVE): STARTING,
    (STARTING, Fact.HEALTHY): READY,
    (STARTING, Fact.LET_GO): STOPPING,
    (STARTING, Fact.OVERDUE): STOPPING,
    (STARTING, Fact.HEADLESS): STOPPING,
    (STARTING, Fact.EXITED): IDLE,
    (STARTING, Fact.ENDED): STOPPING,
    (STARTING, Fact.RAN_OUT): STOPPING,
    (READY, Fact.LET_GO): SWITCHING,
    (READY, Fact.STALLED): STOPPING,
    (READY, Fact.HEADLESS): STOPPING,
    (READY, Fact.EXITED): IDLE,
    (READY, Fact.ENDED): STOPPING,
    (SWITCHING, Fact.KEPT): READY,
    (SWITCHING, Fact.LET_GO): SWITCHING,
    (SWITCHING, Fact.OVERDUE): STOPPING,
    (SWITCHING, Fact.STALLED): STOPPING,  # what says nothing does not drain
    (SWITCHING, Fact.HEADLESS): STOPPING,
    (SWITCHING, Fact.EXITED): IDLE,
    (SWITCHING, Fact.ENDED): STOPPING,
    (STOPPING, Fact.ALIVE): STOPPING,  # its last report crossed our signal
    (STOPPING, Fact.HEALTHY): STOPPING,
    (STOPPING, Fact.LET_GO): STOPPING,
    (STOPPING, Fact.OVERDUE): STOPPING,  # deaf to the polite signal: by force
    (STOPPING, Fact.STALLED): STOPPING,  # it goes already
    (STOPPING, Fact.HEADLESS): STOPPING,
    (STOPPING, Fact.EXITED): IDLE,
    (STOPPING, Fact.ENDED): STOPPING,
    (STOPPING, Fact.FREED): IDLE,
}

ENDS = (Fact.EXITED, Fact.ENDED, Fact.RAN_OUT)  # of its process

# What follows by itself from (phase, requests in flight?), until nothing does.
ON_STATE: dict[tuple[Phase, bool], Phase] = {
    (SWITCHING, False): STOPPING,
}

# The step with which a phase begins.
FIRST_STEP: dict[Phase, str | None] = {
    IDLE: None,
    STARTING: Step.STARTING,
    READY: None,
    SWITCHING: Step.DRAINING,
    STOPPING: Step.STOPPING,
}


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start the process."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Signal the process: politely, or by force."""

    force: bool = False


Effect = Spawn | Stop


class IllegalFact(Exception):
    """The shell reported something that cannot happen in this phase."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that each phase may take."""

    start: float
    stall: float  # without a sign of progress while starting
    drain: float
    stop: float


class Machine:
    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self.phase = IDLE
        self.step: str | None = None
        self.since = now  # when the phase began
        self.ready_at = now
        self.last_used = now
        self.in_flight = 0
        self.failure: Failure | None = None
        self.failures = 0  # failed loads in a row
        self.stalls = 0  # in a row, without an answer to a request in between
        self._silent_at = math.inf  # to an answer in one piece, since it last answered
        self.retry_at = now
        self.died = (
            False  # its last process, or it had stalled: how long its end took tells nothing
        )
        self._force = Force(limits.stop)
        self.deadline = math.inf
        self._must_be_ready = math.inf

    def saw(self, fact: Fact, now: float, exit: Exit | None = None) -> list[Effect]:
        """The only door through which a phase changes."""
        phase = self.phase
        try:
            target = ON_FACT[phase, fact]
        except KeyError:
            raise IllegalFact(f"{fact.name} while {phase}") from None
        if fact is Fact.ALIVE and phase is STARTING and self.step is not Step.AWAITING_READINESS:
            self.step = Step.AWAITING_READINESS
            self.sign_of_life(now)  # only the first answer is: one may say "loading" for ever
        if fact in ENDS:
            self.died = phase is not STOPPING or self._has_stalled
            self._force = Force(self._limits.stop)
            self.recover(now)
        if fact in (Fact.EXITED, Fact.ENDED, Fact.HEADLESS):
            self._ended(exit, now)
        if fact is Fact.STALLED and phase in SERVING:
            self._stalled(exit, now)
        if fact is Fact.OVERDUE and phase is STARTING:
            self._never_got_ready(exit.log_tail if exit else (), now)
        if fact is Fact.OVERDUE and phase is STOPPING:
            return self._by_force(now)
        effects = list(self._enter(target, now)) + list(self._settle(now))
        if fact in ENDS and target is STOPPING:  # nobody is left to be told to go
            self.step, self.deadline = Step.AWAITING_VRAM, math.inf
            return []
        return effects

    def admit(self, slots: int, now: float) -> bool:
        """Count a request in, if the engine can serve it now. Each True needs one `release`."""
        if self.phase is not READY or self.in_flight >= slots:
            return False
        self.in_flight += 1
        self.last_used = now
        return True

    def release(self, now: float) -> list[Effect]:
        self.in_flight -= 1
        self.last_used = now
        return list(self._settle(now))

    def answered(self) -> None:
        """A request has got its whole answer: what stalled before counts no more."""
        self.stalls = 0
        self._silent_at = math.inf

    def is_stall(self, limit: float, now: float, *, whole: bool) -> bool:
        """Whether silence of `limit` seconds to all its requests is one. An answer in one piece
        (`whole`) is silent until it is made, which may take longer: then only that of a second
        one, which was asked for later, proves anything."""
        proves = not whole or now >= self._silent_at + limit
        self._silent_at = min(self._silent_at, now)
        return proves

    @property
    def serves(self) -> bool:
        """Whether it is up and can be looked at, also while it finishes what it has."""
        return self.phase in SERVING

    def sign_of_life(self, now: float) -> None:
        """The load moves: it has not stalled."""
        if self.phase is STARTING:
            self.deadline = min(self._must_be_ready, now + self._limits.stall)

    @property
    def unkillable(self) -> bool:
        """Whether it was ended by force for long, in vain."""
        return self._force.in_vain

    def recover(self, now: float) -> None:
        """What could not be ended has ended, and stands in its way no more."""
        failed = self.failure is not None and self.failure.cause == "unkillable"
        if failed and not self.unkillable:
            self.failure = None
            self.forgive(now)

    def cannot_start(self, obstacle: Exit, now: float) -> None:
        """A load that fails before it begins: who waits is told, and nobody leaves for it."""
        assert self.phase is IDLE or self.unkillable, "an engine that runs has been started"
        self._load_failed(obstacle.cause, obstacle.how, now)

    def forgive(self, now: float) -> None:
        """Somebody asked by hand: what failed before counts no more."""
        self.failures = self.stalls = 0
        self.retry_at = now

    @property
    def _has_stalled(self) -> bool:
        return self.failure is not None and self.failure.code == "engine_stalled"

    @property
    def load_failed_at(self) -> float:
        """When its last load failed, if it did; minus infinity if not."""
        failed = self.failure is not None and self.failure.code == "load_failed"
        return self.failure.at if self.failure is not None and failed else -math.inf

    def _settle(self, now: float) -> Iterator[Effect]:
        while (target := ON_STATE.get((self.phase, self.in_flight > 0))) is not None:
            yield from self._enter(target, now)

    def _enter(self, phase: Phase, now: float) -> Iterator[Effect]:
        if phase is self.phase:
            return
        came_from, self.phase = self.phase, phase
        self.step, self.since = FIRST_STEP[phase], now
        self._must_be_ready = now + self._limits.start
        limit = {
            STARTING: min(self._limits.start, self._limits.stall),
            SWITCHING: self._limits.drain,
            STOPPING: self._limits.stop,
        }
        self.deadline = now + limit.get(phase, math.inf)
        if phase is STARTING:
            self.failure = None
            yield Spawn()
        elif phase is STOPPING:
            yield Stop()
        elif phase is READY and came_from is not SWITCHING:
            self.ready_at = self.last_used = now
            self.failures = 0
            self._silent_at = math.inf

    def _ended(self, exit: Exit | None, now: float) -> None:
        if self.phase is STOPPING:  # as told
            return
        assert exit is not None, "an exit that nobody asked for needs its reason"
        if self.phase is STARTING:
            message = f"{exit.how}: {exit.last_words}" if exit.last_words else exit.how
            self._load_failed(exit.cause, message, now, exit.log_tail)
        else:  # its last words may be a prompt: they are no part of the message
            self.failure = Failure("engine_died", exit.cause, exit.how, now, exit.log_tail)

    def _stalled(self, stall: Exit | None, now: float) -> None:
        assert stall is not None, "a stall needs its reason"
        self.failure = Failure("engine_stalled", stall.cause, stall.how, now, stall.log_tail)
        self.stalls += 1
        self.retry_at = now + backoff(self.stalls)

    def _by_force(self, now: float) -> list[Effect]:
        if self._force.told(now):
            said = f"{now - self._force.began:.0f} s after it was killed it has not ended"
            self.failure = Failure("load_failed", "unkillable", said, now)
        self.deadline = self._force.again_at
        return [Stop(force=True)]

    def _never_got_ready(self, said: LogTail, now: float) -> None:
        if now >= self._must_be_ready:
            self._load_failed("timeout", f"not ready within {self._limits.start:.0f} s", now, said)
        else:
            silence = f"no sign of progress for {self._limits.stall:.0f} s"
            self._load_failed("stalled", silence, now, said)

    def _load_failed(self, cause: Cause, message: str, now: float, log_tail: LogTail = ()) -> None:
        self.failure = Failure("load_failed", cause, message, now, log_tail)
        self.failures += 1
        self.retry_at = now + backoff(self.failures)
