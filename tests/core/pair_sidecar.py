"""The supervisor's part for one `Box`: engines that take their time, deadlines, and the Status.

Rule: what the shell does is done here as it does it; what is decided, the core decides.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping

from shared.demand import Demand
from shared.status import LEAVING, Catalogue, ModelFacts
from sidecar.box import Box
from sidecar.engine import Do
from sidecar.estimate import Measured
from sidecar.failure import Exit
from sidecar.machine import Fact, Spawn
from sidecar.memory import HOST, capacity
from sidecar.plan import Rules
from sidecar.report import report
from tests.core.pair_hardware import Hardware
from tests.core.pair_net import Alarm, Clock, Network
from tests.core.pair_records import Launch, Offer, Program, Request, Watcher

COALESCE = 0.1  # seconds, as in the bulletin: small news goes out this often
MEMORY_EVERY = 1.0  # seconds, as in the lookout: so a Status goes out once a second at least
MEMORY_AGAIN = 0.02  # while somebody waits for memory
EPOCH = 1_795_000_000.0  # Unix time at the clock's zero
TAKES_AT = 0.3  # of a load: when an engine takes its memory
CRASH = Exit("crashed", "exited with code 1")
OUT_OF_MEMORY = Exit("vram_oom", "out of memory")


class Sidecar:
    def __init__(
        self,
        name: str,
        programs: Mapping[str, Program],
        hardware: Hardware,
        rules: Rules,
        clock: Clock,
        net: Network,
    ) -> None:
        self.name = name
        self.hardware = hardware
        self.watchers: list[Watcher] = []
        self.launches: list[Launch] = []
        self.came: Counter[tuple[str, str]] = Counter()  # requests, by router and model
        self.settled: Callable[[Sidecar], None] = lambda _: None  # called after whatever happened
        self.rules = rules
        self._programs = programs
        self._measured: dict[str, Measured] = {}  # what a restart does not forget
        self._clock, self._net = clock, net
        self._running: dict[str, Launch] = {}  # until its exit is noticed
        self._boots = itertools.count(1)
        self._soon = Alarm(clock, self.publish)
        self._alarm = Alarm(clock, self._tick)
        self._look = Alarm(clock, self._look_at_memory)
        self.start()

    # Its life.

    def start(self) -> None:
        models = {id: program.model(id) for id, program in self._programs.items()}
        boot, now = f"boot{next(self._boots)}", self._clock.now
        whole = capacity(self.hardware.seen(), limit=self.hardware.total[HOST])
        self.box = Box(self.name, boot, models, whole, self.rules, now)
        self.box.recall(self._measured)
        self.up = True
        self._look_at_memory()
        for watcher in self.watchers:
            watcher.links[self.name].carry(watcher.connected, self)

    def restart(self, down: float) -> None:
        """It ends with all its engines, and comes back as one that knows only what it measured."""
        if not self.up:
            return
        self._measured = {id: engine.history.measured for id, engine in self.box.engines.items()}
        self.up = False
        self._soon.off()
        self._alarm.off()
        self._look.off()
        for launch in self._running.values():
            self._end(launch, end="box_died")
        self._running = {}
        for watcher in self.watchers:
            watcher.links[self.name].carry(watcher.lost, self)
        self._clock.after(down, self.start)

    def catalogue(self) -> Catalogue:
        facts = (ModelFacts(m, "command", m, None, p.slots) for m, p in self._programs.items())
        return Catalogue(self.name, self.box.boot, tuple(facts))

    def _look_at_memory(self) -> None:
        self._looked_at = self._clock.now
        leaders = {model: id(launch) for model, launch in self._running.items()}
        self._look.set(self._clock.now + MEMORY_EVERY)
        self._act(self.box.looked(self.hardware.seen(), leaders, self._clock.now))

    @property
    def is_surprised(self) -> bool:
        return any(launch.surprises for launch in self._running.values())

    def _is(self, box: Box) -> bool:
        """Whether this is still the life in which something began."""
        return self.up and box is self.box

    # By hand.

    def load(self, model: str) -> None:
        if self.up:
            self._act(self.box.load(model, self._clock.now))

    def unload(self, model: str) -> None:
        if self.up:
            self._act(self.box.unload(model, self._clock.now))

    def switch(self, model: str) -> None:
        if self.up:
            self._act(self.box.switch(model, self._clock.now))

    # What is asked of it.

    def heard(self, router: str, demand: Demand) -> None:
        self._act(self.box.heard(router, demand, self._clock.now))

    def offered(self, offer: Offer) -> None:
        request, now = offer.request, self._clock.now
        model, router = request.ticket.model, request.router
        back = router.links[self.name].carry
        if not self.up:
            back(router.unreachable, offer)
            return
        self.came[router.id, model] += 1
        refusal = self.box.admit(model, router.id, now)
        self._publish_soon()
        if refusal is not None:
            back(router.refused, offer, self.box.boot, self.box.seq)
            return
        launch = self._running[model]
        launch.served += 1
        launch.served_after_told += launch.told is not None
        launch.serving.append(offer)
        offer.admitted, offer.launch = now, launch
        if not offer.counts:
            self.done(offer, "left")
            return
        request.admitted = now
        if launch.ended < math.inf:  # it has died, and nobody has noticed
            self.done(offer, "engine_died")
        elif self._net.random.random() < launch.program.crashes:
            self._clock.after(request.answer, self._end, launch, CRASH)
        else:
            self._clock.after(request.answer, self.done, offer, "answered")

    def done(self, offer: Offer, end: str) -> None:
        """The answer is over, or nobody waits for it any more."""
        launch = offer.launch
        if launch is not None and offer in launch.serving:
            launch.serving.remove(offer)
            self._release(self.box, offer, end)

    def _release(self, box: Box, offer: Offer, end: str) -> None:
        assert offer.admitted is not None
        router = offer.request.router
        router.links[self.name].carry(router.answered, offer, end)
        if self._is(box):
            self._act(box.release(offer.request.ticket.model, offer.admitted, self._clock.now))

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
        if self.box.ledger.is_awaited:
            self._look.set(self._clock.now + MEMORY_AGAIN)
        self.settled(self)

    def publish(self) -> None:
        now = self._clock.now
        self._soon.off()
        self.box.seq += 1
        self.box.news = self.box.changed = False
        status = report(self.box, self.hardware.seen(), now, EPOCH + now)
        for watcher in self.watchers:
            watcher.published(self.name, status)

    def _publish_soon(self) -> None:
        if self.box.changed and not self._soon.is_set:
            self._soon.set(self._clock.now + COALESCE)

    # Processes.

    def _spawn(self, do: Do) -> None:
        program = self._programs[do.model]
        launch = Launch(
            self.name,
            self.box.boot,
            do.model,
            do.booking,
            program,
            started=self._clock.now,
            why=self.box.engines[do.model].because,
            looked_at=self._looked_at,
            waiting_at_start=self._waiting_for(do.model),
        )
        self.launches.append(launch)
        self._running[do.model] = launch
        self._clock.after(program.load * TAKES_AT, self._takes_its_memory, launch)

    def _takes_its_memory(self, launch: Launch) -> None:
        if launch.ended < math.inf:
            return
        load = launch.program.load
        launch.took_at = self._clock.now
        if not self.hardware.take(launch):
            self._end(launch, OUT_OF_MEMORY)
        elif self._net.random.random() < launch.program.fails:
            self._clock.at(launch.started + load / 2, self._end, launch, CRASH)
        else:
            self._clock.at(launch.started + load / 2, self._tell, launch, Fact.ALIVE)
            self._clock.at(launch.started + load, self._is_ready, launch)

    def _is_ready(self, launch: Launch) -> None:
        if launch.signalled is None:
            launch.ready = self._clock.now
            launch.waiting_when_ready = self._waiting_for(launch.model)
        self._tell(launch, Fact.HEALTHY)

    def _signal(self, launch: Launch) -> None:
        launch.signalled = self._clock.now
        launch.in_flight_when_signalled = len(launch.serving)
        self._clock.after(launch.program.stop, self._end, launch)

    def _end(self, launch: Launch, died_of: Exit | None = None, end: str = "engine_died") -> None:
        """The process is gone; its exit and the end of its answers are noticed a moment later."""
        if launch.ended < math.inf:
            return
        launch.ended, launch.died_of = self._clock.now, died_of
        self.hardware.has_ended(launch)
        self._clock.after(self.hardware.lag, self.hardware.give_back, launch)
        self._net.carry(self._exited, self.box, launch)
        for offer in launch.serving:
            self._net.carry(self._release, self.box, offer, end)
        launch.serving.clear()

    def _exited(self, box: Box, launch: Launch) -> None:
        if self._is(box):
            del self._running[launch.model]
            exit = launch.died_of or CRASH
            self._act(box.saw(launch.model, Fact.EXITED, self._clock.now, exit))

    def _tell(self, launch: Launch, fact: Fact) -> None:
        if launch.ended == math.inf:
            self._act(self.box.saw(launch.model, fact, self._clock.now))

    def _note_who_is_told_to_go(self) -> None:
        for launch in self._running.values():
            engine = self.box.engines[launch.model]
            if engine.machine.phase not in LEAVING:
                launch.told = None
            elif launch.told is None:
                launch.told, launch.because = self._clock.now, engine.because
                launch.waiting_when_told = self._waiting_for(launch.model)
                launch.in_flight_when_told = len(launch.serving)

    def _waiting_for(self, model: str) -> list[Request]:
        return [r for watcher in self.watchers for r in watcher.waiting(model, self.name)]
