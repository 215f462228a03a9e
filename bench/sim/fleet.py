"""One router before many boxes that have different models, for more requests than fit in memory."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence

from router.limits import LineLimits
from router.queue import Ticket
from sidecar.plan import Rules
from tests.core.pair import FIRST_HEARING, LOCAL
from tests.core.pair_hardware import Hardware
from tests.core.pair_net import Clock, Network
from tests.core.pair_router import Router
from tests.core.pair_sidecar import Program, Request, Sidecar

RULES = Rules(patience=120.0)  # as in the config
LIMITS = LineLimits(max_waiting=100_000, max_bytes=2**30, max_wait=3600.0, box_grace=15.0)


class Fleet:
    def __init__(self, boxes: Sequence[Mapping[str, Program]], seed: int, room: int) -> None:
        self.clock = Clock()
        self.asked = self.ended = self.answered = self.refusals = 0
        self.waited = 0.0  # seconds, by all who were answered
        net = Network(self.clock, seed, LOCAL, loss=0.0)
        self._sidecars = {
            f"box{n}": Sidecar(f"box{n}", programs, Hardware(room), RULES, self.clock, net)
            for n, programs in enumerate(boxes)
        }
        self._router = Router("router0", self._sidecars, LIMITS, self.clock, net)
        for sidecar in self._sidecars.values():
            sidecar.watchers.append(self._router)
            self._router.connected(sidecar)
        self.clock.run(FIRST_HEARING, done=lambda: False)

    @property
    def loads(self) -> int:
        return sum(len(sidecar.launches) for sidecar in self._sidecars.values())

    def play(
        self, requests: Iterable[tuple[str, float]], rate: float, chance: random.Random
    ) -> None:
        """Model and seconds of the answer of each; `rate` per second. Until all have ended."""
        self._all_came = False
        self._next(iter(requests), rate, chance)
        self.clock.run(float("inf"), done=lambda: self._all_came and self.ended == self.asked)

    def _next(
        self, requests: Iterator[tuple[str, float]], rate: float, chance: random.Random
    ) -> None:
        following = next(requests, None)
        if following is None:
            self._all_came = True
            return
        model, answer = following
        ticket = Ticket(f"{self.asked:08}", model, self.clock.now)
        self.asked += 1
        request = Request(ticket, self._router, answer)
        request.then = lambda: self._note(request)
        self._router.arrived(request)
        self.clock.after(chance.expovariate(rate), self._next, requests, rate, chance)

    def _note(self, request: Request) -> None:
        self.ended += 1
        self.refusals += request.refusals
        if request.ends == ["answered"]:
            self.answered += 1
            self.waited += request.wait
