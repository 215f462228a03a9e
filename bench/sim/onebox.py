"""One box on a virtual clock, under any policy: no network, no messages, all is known at once.

It is kinder to a policy than the real thing is. What a policy decides stands in `Policy`; who is
served by a loaded model, and how long all takes, is the same for every one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from bench.workload import Agent, Workload
from tests.core.pair_net import Alarm, Clock
from tests.core.pair_sidecar import Program

SERVICE_WEIGHT = 0.2  # of the newest answer in the mean that a policy may know


@dataclass(slots=True, eq=False)
class Request:
    model: str
    arrived: float
    answer: float
    then: Callable[[], None] | None = None
    admitted: float = math.inf


@dataclass(slots=True, eq=False)
class Engine:
    """A model that has room on the box."""

    model: str
    program: Program
    phase: Literal["starting", "ready", "draining", "stopping"] = "starting"
    ready_at: float = math.inf
    last_used: float = 0.0
    in_flight: int = 0

    @property
    def leaves(self) -> bool:
        return self.phase in ("draining", "stopping")


@dataclass(slots=True)
class Line:
    """Those who wait for one model, oldest first."""

    model: str
    program: Program
    waiting: list[Request] = field(default_factory=list)
    service: float = 0.0  # mean of its answers so far

    @property
    def oldest(self) -> float:
        return self.waiting[0].arrived

    def waited(self, now: float) -> float:
        """By all of them together."""
        return sum(now - request.arrived for request in self.waiting)


class Policy(Protocol):
    def urgency(self, line: Line, now: float) -> float:
        """The highest is next."""

    def may_leave_at(self, engine: Engine, own: Line, wanted: Line, now: float) -> float:
        """When an engine, whose own line is `own`, may be told to go for those who wait for
        another. Infinite: not while it is as it is."""

    def came(self, line: Line, engine: Engine | None, now: float) -> None:
        """A request has come, for learning."""

    def idle(self, engine: Engine, now: float) -> None:
        """An engine has no request any more, for learning."""


class OneBox:
    def __init__(self, policy: Policy, programs: Mapping[str, Program], room: int) -> None:
        self.clock = Clock()
        self.loads = 0
        self.requests: list[Request] = []
        self._policy, self._programs, self._room = policy, programs, room
        self._engines: dict[str, Engine] = {}
        self._lines = {id: Line(id, program) for id, program in programs.items()}
        self._claims: list[str] = []
        self._again = Alarm(self.clock, self._settle)
        self._ask_again_at = math.inf

    def play(self, workload: Workload) -> None:
        for arrival in workload.arrivals:
            self.clock.at(arrival.at, self._ask, arrival.model, arrival.answer, None)
        for agent in workload.agents:
            self._follow(agent, workload.seconds)

    def _follow(self, agent: Agent, until: float) -> None:
        asks = agent.asks()

        def ask() -> None:
            if self.clock.now < until:
                self._ask(*next(asks), lambda: self.clock.after(agent.pause, ask))

        self.clock.at(agent.start, ask)

    def _ask(self, model: str, answer: float, then: Callable[[], None] | None) -> None:
        now, line = self.clock.now, self._lines[model]
        request = Request(model, now, answer, then)
        self.requests.append(request)
        line.waiting.append(request)
        self._policy.came(line, self._engines.get(model), now)
        self._settle()

    def _served(self, engine: Engine, request: Request) -> None:
        now, line = self.clock.now, self._lines[engine.model]
        before = line.service or request.answer
        line.service = (1 - SERVICE_WEIGHT) * before + SERVICE_WEIGHT * request.answer
        engine.in_flight -= 1
        engine.last_used = now
        if not engine.in_flight:
            self._policy.idle(engine, now)
        if request.then is not None:
            request.then()
        self._settle()

    # What follows.

    def _settle(self) -> None:
        for engine in [*self._engines.values()]:
            if engine.phase == "ready":
                self._serve(engine)
        self._ask_again_at = math.inf
        lines = [line for line in self._lines.values() if self._is_without_a_place(line)]
        now = self.clock.now
        for line in sorted(lines, key=lambda line: -self._policy.urgency(line, now)):
            self._make_room_for(line)
        self._again.set(self._ask_again_at)
        for engine in [*self._engines.values()]:
            if engine.phase == "draining" and not engine.in_flight:
                engine.phase = "stopping"
                self.clock.after(engine.program.stop, self._gone, engine)

    def _serve(self, engine: Engine) -> None:
        now, line = self.clock.now, self._lines[engine.model]
        while line.waiting and engine.in_flight < engine.program.slots:
            request = line.waiting.pop(0)
            request.admitted = engine.last_used = now
            engine.in_flight += 1
            self.clock.after(request.answer, self._served, engine, request)

    def _is_without_a_place(self, line: Line) -> bool:
        return bool(line.waiting) and line.model not in (*self._engines, *self._claims)

    def _make_room_for(self, line: Line) -> None:
        need, now = line.program.need, self.clock.now
        victims: list[Engine] = []
        for engine in sorted(self._may_be_victims(), key=self._price):
            if need <= self._spare(victims):
                break
            victims.append(engine)
        if need > self._spare(victims):
            return
        at = max((self._may_leave_at(victim, line) for victim in victims), default=now)
        if at > now:
            self._ask_again_at = min(at, self._ask_again_at)
            return
        self._claims.append(line.model)
        for victim in victims:
            victim.phase = "draining"
        self._start_claims()

    def _may_leave_at(self, engine: Engine, wanted: Line) -> float:
        own = self._lines[engine.model]
        return self._policy.may_leave_at(engine, own, wanted, self.clock.now)

    def _may_be_victims(self) -> list[Engine]:
        return [engine for engine in self._engines.values() if engine.phase == "ready"]

    def _price(self, engine: Engine) -> tuple[bool, float]:
        busy = engine.in_flight > 0 or bool(self._lines[engine.model].waiting)
        return (busy, engine.last_used)

    def _spare(self, victims: list[Engine]) -> int:
        """Room once those who leave are gone and those with a claim have come."""
        stay = [e for e in self._engines.values() if not e.leaves and e not in victims]
        taken = sum(engine.program.need for engine in stay)
        return self._room - taken - sum(self._programs[claim].need for claim in self._claims)

    def _start_claims(self) -> None:
        """In their order, as room comes."""
        while self._claims:
            program = self._programs[self._claims[0]]
            taken = sum(engine.program.need for engine in self._engines.values())
            if taken + program.need > self._room:
                break
            engine = Engine(self._claims.pop(0), program, last_used=self.clock.now)
            self._engines[engine.model] = engine
            self.loads += 1
            self.clock.after(program.load, self._ready, engine)

    def _ready(self, engine: Engine) -> None:
        engine.phase = "ready"
        engine.ready_at = engine.last_used = self.clock.now
        self._settle()

    def _gone(self, engine: Engine) -> None:
        del self._engines[engine.model]
        self._start_claims()
        self._settle()
