"""The dispatch's and the box client's part for one `Line`: tickets, turns, events and demand.

Rule: what the shell does is done here as it does it; what is decided, the core decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from router.effects import Effect, Fail, Lost, Send
from router.limits import LineLimits
from router.line import Line
from shared.demand import TTL, Demand
from shared.status import Status
from tests.core.pair_net import Alarm, Clock, Link, Network
from tests.core.pair_records import Offer, Request
from tests.core.pair_sidecar import Sidecar

SILENCE = 6.0  # seconds, as in the box's client: three missed heartbeats
GIVEN_UP = 5.0  # seconds, as in the box's client and in the relay: for an answer, to connect
RECONNECTS = (0.05, 2.0)  # seconds after which a client of a box tries again


class Stream:
    """The events of one box: in order, and some are lost. `number`: of the connection."""

    def __init__(self, link: Link, net: Network) -> None:
        self.number = 0
        self._link, self._net = link, net
        self._last = 0.0

    def arrival(self) -> float | None:
        """When what is sent now arrives, if it does."""
        if self._net.loses():
            return None
        self._last = max(self._last, self._link.arrival())
        return self._last


class Courier:
    """Brings demand to one box: when it changes, one message at a time, and every ttl/3."""

    def __init__(self, router: Router, sidecar: Sidecar, clock: Clock, net: Network) -> None:
        self._router, self._sidecar = router, sidecar
        self._clock, self._net, self._link = clock, net, router.links[sidecar.name]
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
        if (echo := self._net.echo()) is not None:
            self._clock.after(echo, self._link.carry, self._arrives, demand)
        lost = self._net.loses()
        if not lost:
            self._link.carry(self._arrives, demand)
        answered = self._link.arrival() + self._net.delay()
        is_told = not lost and self._sidecar.up and not self._link.is_cut
        told = self._key() if is_told else None
        given_up = self._clock.now + GIVEN_UP
        self._clock.at(min(answered, given_up), self._answered, told)

    def _arrives(self, demand: Demand) -> None:
        if self._sidecar.up:
            self._sidecar.heard(self._router.id, demand)

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
        # Called after whatever happened, with what followed.
        self.settled: Callable[[Router, list[Effect]], None] = lambda *_: None
        self.never_came: Counter[tuple[str, str]] = Counter()  # requests, by box and model
        self.links = {box: Link(clock, net) for box in sidecars}
        self._streams = {box: Stream(self.links[box], net) for box in sidecars}
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
        """A new stream of events; how things are now comes first."""
        if self.alive and sidecar.up:
            self._streams[sidecar.name].number += 1
            sidecar.publish()

    def published(self, box: str, status: Status) -> None:
        stream = self._streams[box]
        if (arrival := stream.arrival()) is not None:
            self._clock.at(arrival, self._heard, box, stream.number, status)

    def _heard(self, box: str, stream: int, status: Status) -> None:
        sidecar, now = self._sidecars[box], self._clock.now
        if not (self.alive and sidecar.up and sidecar.box.boot == status.boot):
            return  # the connection that carried it has ended
        if stream != self._streams[box].number:
            return
        if self._boots.get(box) != status.boot:
            self._boots[box] = status.boot
            self._act(self.line.knows(box, sidecar.catalogue(), now))
            self._couriers[box].repeat()
        self._act(self.line.heard(box, status, now))

    def cut_off(self, box: str, seconds: float) -> None:
        """For so long nothing goes between here and the box; then it all arrives, or, where the
        box was silent for too long, there is a new stream of events."""
        self.links[box].cut(seconds)
        self._clock.after(SILENCE, self._falls_silent, self._sidecars[box])

    def _falls_silent(self, sidecar: Sidecar) -> None:
        link, stream = self.links[sidecar.name], self._streams[sidecar.name]
        if link.is_cut and self.alive:
            stream.number += 1
            self.lost(sidecar, silent=True)
            again = self._net.random.uniform(*RECONNECTS)
            self._clock.at(link.healed + again, self.connected, sidecar)

    def lost(self, sidecar: Sidecar, silent: bool = False) -> None:
        if self.alive:
            self._act(self.line.lost(sidecar.name, self._clock.now, silent=silent))

    # Requests.

    def arrived(self, request: Request) -> None:
        self._requests[request.ticket.id] = request
        if self.alive:
            self._act(self.line.arrived(request.ticket, self._clock.now))
        else:
            self._forget(request, "router_died")

    def refused(self, offer: Offer, boot: str, seq: int) -> None:
        offer.request.refusals += 1
        if offer.counts:
            offer.request.offer = None
            self._act(self.line.refused(offer.request.ticket, boot, seq, self._clock.now))

    def unreachable(self, offer: Offer) -> None:
        ticket = offer.request.ticket
        if offer.counts:
            offer.request.offer = None
            self._act(self.line.unreachable(ticket, self._clock.now))
        else:
            self.never_came[offer.box, ticket.model] += 1

    def answered(self, offer: Offer, end: str) -> None:
        """To its end, or as far as it went."""
        if not offer.counts:
            return
        if end == "box_died":
            self._breaks_off(offer)
        else:
            self.ended(offer.request, end)

    def _lost_its_box(self, offer: Offer) -> None:
        if offer.counts:
            self._hang_up(offer.request)
            self._breaks_off(offer)

    def _breaks_off(self, offer: Offer) -> None:
        """Sent again if nothing of its answer was seen."""
        request = offer.request
        if offer.has_begun(self._clock.now):
            self.ended(request, "engine_died")
        else:
            request.offer = request.admitted = None
            request.breaks += 1
            self._act(self.line.broken_off(request.ticket, self._clock.now))

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
        """Who waits for the model while that box is asked for it, be it among others."""
        queue = self.line.waiting().get(model, ())
        if not self.alive or box not in self.line.asked(model):
            return []
        return [self._requests[ticket.id] for ticket in queue]

    def _forget(self, request: Request, end: str) -> None:
        del self._requests[request.ticket.id]
        request.ends.append(end)
        request.ended = self._clock.now
        if request.then is not None:
            request.then()

    def _hang_up(self, request: Request) -> None:
        offer = request.offer
        if offer is not None and offer.launch is not None:
            self.links[offer.box].carry(self._sidecars[offer.box].done, offer, "left")

    # What follows.

    def _tick(self) -> None:
        self._act(self.line.tick(self._clock.now))

    def _act(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                request = self._requests[effect.ticket.id]
                self._send(request, effect.box)
            elif isinstance(effect, Lost):
                request = self._requests[effect.ticket.id]
                self._clock.after(0.0, self._lost_its_box, request.offer)
            elif isinstance(effect, Fail):
                request = self._requests[effect.ticket.id]
                self._clock.after(0.0, self.ended, request, effect.error.code)
        for box in sorted(self.line.take_touched()):
            self._couriers[box].look()
        self._alarm.set(self.line.deadline(self._clock.now))
        self.settled(self, effects)

    def _send(self, request: Request, box: str) -> None:
        offer = request.offer = Offer(request, box)
        link, given_up = self.links[box], self._clock.now + GIVEN_UP
        if link.healed < given_up:
            link.carry(self._sidecars[box].offered, offer)
        else:
            self._clock.at(given_up, self.unreachable, offer)
