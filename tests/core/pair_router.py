"""The dispatch's and the box client's part for one `Line`: tickets, turns, events and demand.

Rule: what the shell does is done here as it does it; what is decided, the core decides.
"""

from __future__ import annotations

from collections.abc import Mapping

from router.effects import Effect, Fail, Send
from router.limits import LineLimits
from router.line import Line
from shared.demand import TTL, Demand
from shared.status import Status
from tests.core.pair_net import Alarm, Clock, Network
from tests.core.pair_sidecar import Request, Sidecar


class Stream:
    """The events of one box: in order, and some are lost."""

    def __init__(self, clock: Clock, net: Network) -> None:
        self._clock, self._net = clock, net
        self._last = 0.0

    def arrival(self) -> float | None:
        """When what is sent now arrives, if it does."""
        if self._net.loses():
            return None
        self._last = max(self._last, self._clock.now + self._net.delay())
        return self._last


class Courier:
    """Brings demand to one box: when it changes, one message at a time, and every ttl/3."""

    def __init__(self, router: Router, sidecar: Sidecar, clock: Clock, net: Network) -> None:
        self._router, self._sidecar = router, sidecar
        self._clock, self._net = clock, net
        self._told: object = None
        self._on_the_way = self._changed = False
        self._seq = 0
        self._again = Alarm(clock, self.repeat)

    def look(self) -> None:
        if self._on_the_way:
            self._changed = True  # goes in the next
        elif self._key() != self._told and self._router.alive:
            self._put()

    def repeat(self) -> None:
        self._told = None
        self.look()

    def _key(self) -> object:
        return self._router.line.demand_key(self._sidecar.name)

    def _put(self) -> None:
        self._on_the_way, self._changed = True, False
        self._seq += 1
        models = self._router.line.demand(self._sidecar.name, self._clock.now)
        demand = Demand(v=1, seq=self._seq, ttl_s=TTL, models=models)
        self._net.carry(self._arrives, demand, self._key(), self._net.loses())

    def _arrives(self, demand: Demand, key: object, lost: bool) -> None:
        if lost or not self._sidecar.up:
            key = None
        else:
            self._sidecar.heard(self._router.id, demand)
        self._net.carry(self._answered, key)

    def _answered(self, told: object) -> None:
        self._on_the_way, self._told = False, told
        self._again.set(self._clock.now + TTL / 3)
        if self._changed:
            self.look()


class Router:
    def __init__(
        self,
        id: str,
        sidecars: Mapping[str, Sidecar],
        limits: LineLimits,
        clock: Clock,
        net: Network,
    ) -> None:
        self.id = id
        self.alive = True
        self.line = Line(limits, list(sidecars))
        self._sidecars = sidecars
        self._clock, self._net = clock, net
        self._streams = {box: Stream(clock, net) for box in sidecars}
        self._couriers = {box: Courier(self, s, clock, net) for box, s in sidecars.items()}
        self._boots: dict[str, str] = {}
        self._requests: dict[str, Request] = {}
        self._alarm = Alarm(clock, self._tick)

    def dies(self) -> None:
        """All its connections end; nobody hears of it again."""
        self.alive = False
        self._alarm.off()
        for request in list(self._requests.values()):
            self._forget(request, "router_died")
            self._hang_up(request)

    # Boxes.

    def connected(self, sidecar: Sidecar) -> None:
        if self.alive:
            sidecar.publish()  # a new watcher hears how things are now

    def published(self, box: str, status: Status) -> None:
        if (arrival := self._streams[box].arrival()) is not None:
            self._clock.at(arrival, self._heard, box, status)

    def _heard(self, box: str, status: Status) -> None:
        sidecar, now = self._sidecars[box], self._clock.now
        if not (self.alive and sidecar.up and sidecar.box.boot == status.boot):
            return  # the connection that carried it has ended
        if self._boots.get(box) != status.boot:
            self._boots[box] = status.boot
            self._act(self.line.knows(box, sidecar.catalogue(), now))
            self._couriers[box].repeat()
        self._act(self.line.heard(box, status, now))

    def lost(self, sidecar: Sidecar) -> None:
        if self.alive:
            self._act(self.line.lost(sidecar.name, self._clock.now))

    # Requests.

    def arrived(self, request: Request) -> None:
        self._requests[request.ticket.id] = request
        if self.alive:
            self._act(self.line.arrived(request.ticket, self._clock.now))
        else:
            self._forget(request, "router_died")

    def refused(self, request: Request, boot: str, seq: int) -> None:
        request.refusals += 1
        if request.ticket.id in self._requests:
            self._act(self.line.refused(request.ticket, boot, seq, self._clock.now))

    def unreachable(self, request: Request, box: str) -> None:
        if request.ticket.id in self._requests:
            boot, seq = self.line.boxes[box].newest()
            self._act(self.line.refused(request.ticket, boot, seq, self._clock.now))

    def leaves(self, request: Request) -> None:
        """Its client hangs up, in whatever state."""
        if request.ticket.id in self._requests:
            self.ended(request, "left")
            self._hang_up(request)

    def ended(self, request: Request, end: str) -> None:
        if request.ticket.id in self._requests:
            self._forget(request, end)
            self._act(self.line.left(request.ticket, self._clock.now))

    def waiting(self, model: str, box: str) -> list[Request]:
        """Who waits for the model while that box is asked for it."""
        queue = self.line.waiting().get(model, ())
        if not self.alive or self.line.placed(model) != box:
            return []
        return [self._requests[ticket.id] for ticket in queue]

    def _forget(self, request: Request, end: str) -> None:
        del self._requests[request.ticket.id]
        request.ends.append(end)
        request.ended = self._clock.now
        if request.then is not None:
            request.then()

    def _hang_up(self, request: Request) -> None:
        if request.launch is not None:
            self._net.carry(self._sidecars[request.launch.box].done, request, "left")

    # What follows.

    def _tick(self) -> None:
        self._act(self.line.tick(self._clock.now))

    def _act(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                request = self._requests[effect.ticket.id]
                self._net.carry(self._sidecars[effect.box].offered, request)
            elif isinstance(effect, Fail):
                request = self._requests[effect.ticket.id]
                self._clock.after(0.0, self.ended, request, effect.error.code)
        for courier in self._couriers.values():
            courier.look()
        self._alarm.set(self.line.deadline(self._clock.now))
