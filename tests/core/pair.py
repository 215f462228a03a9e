"""Routers' and boxes' cores back to back, on a virtual clock and over a pretend network.

Rule: nothing is judged here. What happened is written down (`Request`, `Launch`), and tests read
it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

from router.limits import LineLimits
from router.queue import Ticket
from shared.status import Phase
from sidecar.plan import Rules
from tests.core.pair_hardware import Hardware
from tests.core.pair_net import Clock, Network
from tests.core.pair_records import Launch, Program, Request
from tests.core.pair_router import Router
from tests.core.pair_sidecar import Sidecar

FIRST_HEARING = 0.1  # seconds: by then every router has heard every box
LOCAL = (0.0005, 0.002)  # seconds: the delays that the scheduling rules were tried with
FAILED_PAUSE = 1.0  # seconds that a client waits after an error
FAR = (0.0005, 0.03)  # seconds: a network with delays as between two sites


class Pair:
    def __init__(
        self,
        programs: Mapping[str, Program],
        seed: int,
        *,
        boxes: int = 1,
        routers: int = 1,
        room: int = 1,
        gpus: Sequence[int] = (),
        tells: bool = True,
        lag: float = 0.0,
        delays: tuple[float, float] = LOCAL,
        loss: float = 0.0,
        echoes: float = 0.0,
        patience: float = 120.0,
        min_resident: float = 0.0,
        preload: tuple[str, ...] = (),
        max_wait: float = 3600.0,
    ) -> None:
        self.programs = programs
        self.room = room
        self.clock = Clock()
        self.net = Network(self.clock, seed, delays, loss=0.0)
        self.random = self.net.random
        self.requests: list[Request] = []
        rules = Rules(patience, min_resident, preload)
        names = [f"box{n}" for n in range(boxes)]
        self.sidecars = {
            name: Sidecar(
                name,
                programs,
                Hardware(room, gpus, tells=tells, lag=lag),
                rules,
                self.clock,
                self.net,
            )
            for name in names
        }
        self._limits = LineLimits(
            max_waiting=10_000, max_bytes=2**30, max_wait=max_wait, box_grace=15.0
        )
        self.routers: list[Router] = []
        self._ids = itertools.count()
        for _ in range(routers):
            self.router_starts()
        self.run(FIRST_HEARING)
        self.net.loss, self.net.echoes = loss, echoes

    # What happens.

    def router_starts(self) -> Router:
        name = f"router{len(self.routers)}"
        router = Router(name, self.sidecars, self._limits, self.clock, self.net)
        self.routers.append(router)
        for sidecar in self.sidecars.values():
            sidecar.watchers.append(router)
            router.connected(sidecar)
        return router

    def vanish(self, box: str, down: float) -> None:
        """Its power fails: nobody hears of it, and it comes back as after a restart."""
        for router in self.routers:
            router.cut_off(box, down)
        self.sidecars[box].restart(down)

    def ask(
        self,
        model: str,
        *,
        at: float | None = None,
        router: int = 0,
        priority: int = 0,
        tenant: str = "",
        answer: float | None = None,
        stays: float | None = None,
        then: Callable[[], None] | None = None,
    ) -> Request:
        """A client asks; after `stays` seconds it leaves, answered or not."""
        when = self.clock.now if at is None else max(at, self.clock.now)
        ticket = Ticket(f"{next(self._ids):06}", model, when, priority, tenant=tenant)
        takes = self.programs[model].answer if answer is None else answer
        request = Request(ticket, self.routers[router], takes, then)
        self.requests.append(request)
        self.clock.at(when, self.routers[router].arrived, request)
        if stays is not None:
            self.clock.at(when + stays, self.routers[router].leaves, request)
        return request

    def poisson(self, rate: float, seconds: float, models: Sequence[str]) -> None:
        """Requests for all the models together, by no rhythm, at any of the routers."""
        when = self.clock.now
        while (when := when + self.random.expovariate(rate)) < FIRST_HEARING + seconds:
            router = self.random.randrange(len(self.routers))
            self.ask(self.random.choice(models), at=when, router=router)

    def keep_asking(self, model: str, until: float, router: int = 0) -> None:
        """A client that asks again as soon as it is answered, and after a second where it was
        not; answers vary by a third."""

        def ask() -> None:
            if self.clock.now < until:
                answer = self.programs[model].answer * self.random.uniform(0.7, 1.3)
                request = self.ask(model, router=router, answer=answer, then=lambda: again(request))

        def again(before: Request) -> None:
            self.clock.after(0.0 if before.ends == ["answered"] else FAILED_PAUSE, ask)

        ask()

    # How it goes on.

    def run(self, until: float) -> None:
        self.clock.run(until, done=lambda: False)
        self.clock.now = until

    def run_until_all_have_ended(self, within: float) -> None:
        limit = self.clock.now + within
        self.clock.run(limit, done=self._all_have_ended)
        waiting = [request for request in self.requests if not request.ends]
        assert not waiting, f"{len(waiting)} without an end after {within} s: {waiting[:3]}"

    def _all_have_ended(self) -> bool:
        while self._ended < len(self.requests) and self.requests[self._ended].ends:
            self._ended += 1
        return self._ended == len(self.requests)

    _ended = 0  # so many of the first requests have an end

    # What can be read.

    @property
    def launches(self) -> list[Launch]:
        return [launch for sidecar in self.sidecars.values() for launch in sidecar.launches]

    @property
    def waits(self) -> list[float]:
        return [request.wait for request in self.requests]

    @property
    def refusals(self) -> int:
        return sum(request.refusals for request in self.requests)

    def is_at_rest(self) -> bool:
        """Nobody waits but for room that pins hold, nothing is planned, and every engine is ready
        or not there."""
        alive = [router for router in self.routers if router.alive]
        return all(not router.line.waiting() for router in alive) and all(
            not (sidecar.box.inventory.claims or sidecar.box.switches)
            and all(wait.stuck for wait in sidecar.box.waits)
            and all(
                engine.machine.phase in (Phase.IDLE, Phase.READY) and not engine.machine.in_flight
                for engine in sidecar.box.engines.values()
            )
            for sidecar in self.sidecars.values()
        )
