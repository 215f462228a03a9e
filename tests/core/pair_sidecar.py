"""The supervisor's part for one `Box`: engines that take their time, deadlines, and the Status.

Rule: what the shell does is done here as it does it; what is decided, the core decides.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from router.queue import Ticket
from shared.demand import Demand
from shared.status import Catalogue, ModelFacts, Phase, Status
from sidecar.box import Box
from sidecar.engine import Do, Model
from sidecar.estimate import BYTES_PER_SECOND
from sidecar.machine import Exit, Fact, Limits, Spawn
from sidecar.memory import HOST, Bytes, Host, Memory, Need
from sidecar.plan import Rules
from sidecar.report import report
from tests.core.pair_net import Alarm, Clock, Network

COALESCE = 0.1  # seconds, as in the supervisor: small news goes out this often
MEMORY_EVERY = 1.0  # seconds, as in the supervisor: so a Status goes out once a second at least
EPOCH = 1_795_000_000.0  # Unix time at the clock's zero
SEEN = Memory(Host(total=100, used=0, free=100))
GOING = (Phase.SWITCHING, Phase.STOPPING)


@dataclass(frozen=True)
class Program:
    """How the engine of one model behaves; times in seconds."""

    load: float = 2.0
    stop: float = 0.01
    answer: float = 0.3
    slots: int = 100
    need: int = 1
    fails: bool = False  # its loads end half way
    crashes: float = 0.0  # the chance that an answer ends its engine
    drain: float = 600.0  # the longest that it may take to finish what it has

    def model(self, id: str) -> Model:
        limits = Limits(start=600.0, stall=300.0, drain=self.drain, stop=10.0)
        need = Need(self.need, "declared", on_host=True)
        return Model(id, self.slots, need, limits, size=int(self.load * BYTES_PER_SECOND))


class Watcher(Protocol):
    """A router, as a sidecar sees it."""

    id: str

    def connected(self, sidecar: Sidecar) -> None: ...
    def lost(self, sidecar: Sidecar) -> None: ...
    def published(self, box: str, status: Status) -> None: ...
    def refused(self, request: Request, boot: str, seq: int) -> None: ...
    def unreachable(self, request: Request, box: str) -> None: ...
    def ended(self, request: Request, end: str) -> None: ...
    def waiting(self, model: str, box: str) -> list[Request]: ...


@dataclass(eq=False)
class Request:
    ticket: Ticket
    router: Watcher
    answer: float  # seconds that it takes
    then: Callable[[], None] | None = None  # what its client does next
    admitted: float | None = None
    launch: Launch | None = None  # the engine that took it
    refusals: int = 0
    ends: list[str] = field(default_factory=list)  # "answered", "left", or the code of an error
    ended: float = math.inf

    @property
    def wait(self) -> float:
        """Seconds until an engine took it, or until its end."""
        return (self.ended if self.admitted is None else self.admitted) - self.ticket.arrived


@dataclass(eq=False)
class Launch:
    """One process, from its start to its end."""

    box: str
    model: str
    booking: Bytes
    program: Program
    started: float
    waiting_at_start: list[Request]
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
    serving: list[Request] = field(default_factory=list)


class Sidecar:
    def __init__(
        self,
        name: str,
        programs: Mapping[str, Program],
        room: int,
        patience: float,
        clock: Clock,
        net: Network,
    ) -> None:
        self.name = name
        self.watchers: list[Watcher] = []
        self.launches: list[Launch] = []
        self._programs, self._room, self._patience = programs, room, patience
        self._clock, self._net = clock, net
        self._running: dict[str, Launch] = {}  # until its exit is noticed
        self._boots = itertools.count(1)
        self._soon = Alarm(clock, self.publish)
        self._alarm = Alarm(clock, self._tick)
        self.start()

    # Its life.

    def start(self) -> None:
        models = {id: program.model(id) for id, program in self._programs.items()}
        boot, now = f"boot{next(self._boots)}", self._clock.now
        self.box = Box(self.name, boot, models, {HOST: self._room}, Rules(self._patience), now)
        self.up = True
        self._look_at_memory(self.box)
        for watcher in self.watchers:
            self._net.carry(watcher.connected, self)

    def restart(self, down: float) -> None:
        """It ends with all its engines, and comes back as one that knows nothing."""
        self.up = False
        self._soon.off()
        self._alarm.off()
        for launch in self._running.values():
            self._end(launch)
        self._running = {}
        for watcher in self.watchers:
            self._net.carry(watcher.lost, self)
        self._clock.after(down, self.start)

    def catalogue(self) -> Catalogue:
        facts = (ModelFacts(m, "command", m, None, p.slots) for m, p in self._programs.items())
        return Catalogue(self.name, self.box.boot, tuple(facts))

    def _look_at_memory(self, box: Box) -> None:
        if self._is(box):
            box.changed = True
            self._act(box.strangers({}, self._clock.now))
            self._clock.after(MEMORY_EVERY, self._look_at_memory, box)

    def _is(self, box: Box) -> bool:
        """Whether this is still the life in which something began."""
        return self.up and box is self.box

    # What is asked of it.

    def heard(self, router: str, demand: Demand) -> None:
        self._act(self.box.heard(router, demand, self._clock.now))

    def offered(self, request: Request) -> None:
        model, now = request.ticket.model, self._clock.now
        if not self.up:
            self._net.carry(request.router.unreachable, request, self.name)
            return
        refusal = self.box.admit(model, request.router.id, now)
        self._publish_soon()
        if refusal is not None:
            self._net.carry(request.router.refused, request, self.box.boot, self.box.seq)
            return
        launch = self._running[model]
        launch.served += 1
        launch.serving.append(request)
        request.admitted, request.launch = now, launch
        if request.ends:  # its client left while it was on the wire
            self.done(request, "left")
        elif launch.ended < math.inf:  # it has died, and nobody has noticed
            self.done(request, "engine_died")
        elif self._net.random.random() < launch.program.crashes:
            self._clock.after(request.answer, self._end, launch)
        else:
            self._clock.after(request.answer, self.done, request, "answered")

    def done(self, request: Request, end: str) -> None:
        """The answer is over, or its client has gone."""
        launch = request.launch
        if launch is not None and request in launch.serving:
            launch.serving.remove(request)
            self._release(self.box, request, end)

    def _release(self, box: Box, request: Request, end: str) -> None:
        assert request.admitted is not None
        self._net.carry(request.router.ended, request, end)
        if self._is(box):
            self._act(box.release(request.ticket.model, request.admitted, self._clock.now))

    # What follows.

    def _tick(self) -> None:
        self._act(self.box.tick(self._clock.now))

    def _act(self, effects: list[Do]) -> None:
        for do in effects:
            if isinstance(do.effect, Spawn):
                self._spawn(do)
            elif (launch := self._running.get(do.model)) is not None and launch.signalled is None:
                self._signal(launch)
        self._note_who_is_told_to_go()
        if self.box.news:
            self.publish()
        else:
            self._publish_soon()
        self._alarm.set(self.box.deadline(self._clock.now))

    def publish(self) -> None:
        now = self._clock.now
        self._soon.off()
        self.box.seq += 1
        self.box.news = self.box.changed = False
        status = report(self.box, SEEN, now, EPOCH + now)
        for watcher in self.watchers:
            watcher.published(self.name, status)

    def _publish_soon(self) -> None:
        if self.box.changed and not self._soon.is_set:
            self._soon.set(self._clock.now + COALESCE)

    # Processes.

    def _spawn(self, do: Do) -> None:
        now, program = self._clock.now, self._programs[do.model]
        waiting = self._waiting_for(do.model)
        launch = Launch(self.name, do.model, do.booking, program, now, waiting)
        self.launches.append(launch)
        self._running[do.model] = launch
        if program.fails:
            self._clock.after(program.load / 2, self._end, launch)
        else:
            self._clock.after(program.load / 2, self._tell, launch, Fact.ALIVE)
            self._clock.after(program.load, self._is_ready, launch)

    def _is_ready(self, launch: Launch) -> None:
        if launch.signalled is None:
            launch.ready = self._clock.now
            launch.waiting_when_ready = self._waiting_for(launch.model)
        self._tell(launch, Fact.HEALTHY)

    def _signal(self, launch: Launch) -> None:
        launch.signalled = self._clock.now
        launch.in_flight_when_signalled = len(launch.serving)
        self._clock.after(launch.program.stop, self._end, launch)

    def _end(self, launch: Launch) -> None:
        """The process is gone; its exit and the end of its answers are noticed a moment later."""
        if launch.ended < math.inf:
            return
        launch.ended = self._clock.now
        self._net.carry(self._exited, self.box, launch)
        for request in launch.serving:
            self._net.carry(self._release, self.box, request, "engine_died")
        launch.serving.clear()

    def _exited(self, box: Box, launch: Launch) -> None:
        if self._is(box):
            del self._running[launch.model]
            exit = Exit("crashed", "exited with code 1")
            self._act(box.saw(launch.model, Fact.EXITED, self._clock.now, exit))

    def _tell(self, launch: Launch, fact: Fact) -> None:
        if launch.ended == math.inf:
            self._act(self.box.saw(launch.model, fact, self._clock.now))

    def _note_who_is_told_to_go(self) -> None:
        for launch in self._running.values():
            engine = self.box.engines[launch.model]
            if engine.machine.phase not in GOING:
                launch.told = None
            elif launch.told is None:
                launch.told, launch.because = self._clock.now, engine.because
                launch.waiting_when_told = self._waiting_for(launch.model)
                launch.in_flight_when_told = len(launch.serving)

    def _waiting_for(self, model: str) -> list[Request]:
        return [r for watcher in self.watchers for r in watcher.waiting(model, self.name)]
