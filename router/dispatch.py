"""Runs the line: tickets and news of boxes in, effects out to those who wait.

It decides nothing. Everything happens on one event loop and no fact waits for another, so there
are no locks.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable, Iterable

from router.effects import Effect, Fail, Lost, News, Send
from router.limits import LineLimits
from router.line import Line
from router.queue import Ticket
from router.round import Round
from router.story import Tell
from router.wheel import Wheel
from shared.errors import SwapyardError
from shared.heart import Heart
from shared.interrupt import Interrupt
from shared.status import Catalogue, Status
from shared.watch import Watch

FIRST_HEARING = 5.0  # seconds that a fresh router waits to hear of boxes before it says "no model"
LONGEST_FAREWELL = 30.0  # seconds that answers have to end when the router shuts down


class BoxLost(Exception):
    """The box that serves a request has fallen silent."""


class Place:
    """One request's place in the line, until it is served or gives up."""

    __slots__ = ("_dispatch", "_error", "_is_news", "_lost", "_stays", "_waiter", "sent", "ticket")

    def __init__(self, dispatch: Dispatch, ticket: Ticket) -> None:
        self.ticket = ticket
        self.sent: Send | None = None
        self._dispatch = dispatch
        self._error: SwapyardError | None = None
        self._is_news = False  # something is to be told at once
        self._lost = False  # the box that serves it is silent
        self._stays = Interrupt()  # of what waits for that box
        self._waiter: asyncio.Future[None] | None = None

    def __enter__(self) -> Place:
        self._dispatch.came(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._dispatch.went(self)

    @property
    def waiting(self) -> int:
        """How many wait at this router, for whatever."""
        return self._dispatch.line.count()

    def turn(self) -> Send | None:
        """Where it is served, once it is. Raises the error if nobody will serve it."""
        if self._error is not None:
            raise self._error
        return self.sent

    async def wait(self, limit: float | None) -> None:
        """Return at its turn, at its failure, when there is something that the last `tell` did
        not say, or after `limit` seconds."""
        if not self._is_news:
            waiter = self._waiter = asyncio.get_running_loop().create_future()
            due = None if limit is None else self._dispatch.wheel.add(waiter, limit)
            try:
                await waiter
            finally:
                self._waiter = None
                if due is not None:
                    due.discard(waiter)
        self._is_news = False

    def tell(self) -> Tell:
        """What the client may know now."""
        self._is_news = False
        return self._dispatch.line.tell(self.ticket, time.monotonic())

    def refused(self, boot: str, seq: int) -> None:
        """The box did not take it: wait again."""
        self.sent = None
        now = time.monotonic()
        self._dispatch.act(self._dispatch.line.refused(self.ticket, boot, seq, now))

    def unreachable(self) -> None:
        """The box could not be connected to: it has not seen the request. Wait again."""
        self.sent = None
        now = time.monotonic()
        self._dispatch.act(self._dispatch.line.unreachable(self.ticket, now))

    def broken_off(self) -> None:
        """The box was gone before an answer began: wait again, or fail."""
        self.sent = None
        now = time.monotonic()
        self._dispatch.act(self._dispatch.line.broken_off(self.ticket, now))

    def while_box_is_heard(self) -> Interrupt:
        """Raises BoxLost in the block once the box that serves this is lost by its silence: what
        waits for its bytes would never hear of that."""
        self._stays = Interrupt()
        if self._lost:
            self._stays.end(BoxLost())
        return self._stays

    @property
    def box(self) -> str:
        """The name of the box whose turn it is."""
        assert self.sent is not None
        return self._dispatch.line.boxes[self.sent.box].name

    def served_name(self) -> str:
        """What the engine whose turn it is knows the model by."""
        assert self.sent is not None
        return self._dispatch.line.boxes[self.sent.box].facts[self.ticket.model].served_name

    def hear(self, effect: Send | Fail | Lost | None) -> None:
        if isinstance(effect, Send):
            self.sent, self._lost = effect, False
        elif isinstance(effect, Fail):
            self._error = effect.error
        elif isinstance(effect, Lost):
            self._lost = True
            self._stays.end(BoxLost())
        self._is_news = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Dispatch:
    def __init__(self, limits: LineLimits, boxes: list[str], optional: Iterable[str] = ()) -> None:
        self.line = Line(limits, boxes, optional)
        self.id = secrets.token_hex(8)  # of this router, new at each start
        self._numbers = itertools.count()  # of requests
        self._places: dict[str, Place] = {}
        self._all_heard = asyncio.Event()
        self._idle = asyncio.Event()  # nobody waits and nobody is served
        self._idle.set()
        self.heart = Heart(self._tick)
        self.wheel = Wheel()
        self._round = Round(self._tell_of_news)
        self._watchers: dict[str, Callable[[], None]] = {}
        self.hearings = Watch(0)  # how often something was heard of a box, its loss included

    async def close(self, hurry: asyncio.Event) -> None:
        """Send away those who wait; return when the last who is served is done, or on `hurry`."""
        self.act(self.line.close())
        self.hearings.close()
        hurried = asyncio.ensure_future(hurry.wait())
        idle = asyncio.ensure_future(self._idle.wait())
        await asyncio.wait(
            {hurried, idle}, timeout=LONGEST_FAREWELL, return_when=asyncio.FIRST_COMPLETED
        )
        hurried.cancel()
        idle.cancel()

    def start(self) -> None:
        self.heart.start()

    def stop(self) -> None:
        self.heart.stop()
        self._round.cancel()

    def place(self, model: str, priority: int, size: int, tenant: str) -> Place:
        """A place in the line from the beginning of its `with` to its end, whatever ends it."""
        # Numbers as long as each other: who came first is before who came in the same instant.
        id, now = f"{next(self._numbers):012x}", time.monotonic()
        return Place(self, Ticket(id, model, now, priority, size, tenant))

    def came(self, place: Place) -> None:
        self._places[place.ticket.id] = place
        self._idle.clear()
        try:
            self.act(self.line.arrived(place.ticket, place.ticket.arrived))
        except BaseException:  # the line is full
            self.went(place)
            raise

    def went(self, place: Place) -> None:
        del self._places[place.ticket.id]
        if not self._places:
            self._idle.set()
        self.act(self.line.left(place.ticket, time.monotonic()))

    # What boxes say.

    def knows(self, box: str, catalogue: Catalogue) -> None:
        self._heard(f"events of {box}", lambda now: self.line.knows(box, catalogue, now))

    def heard(self, box: str, status: Status) -> None:
        self._heard(f"events of {box}", lambda now: self.line.heard(box, status, now))
        if self.line.all_heard():
            self._all_heard.set()

    def lost(self, box: str, why: str, *, silent: bool = False) -> None:
        self._heard(f"loss of {box}", lambda now: self.line.lost(box, now, why, silent))

    def _heard(self, about: str, decide: Callable[[float], list[Effect]]) -> None:
        """Raises Undecided."""
        with self.heart.deciding(about):
            self.act(decide(time.monotonic()))
        self.hearings.set(self.hearings.value + 1)

    def watch_demand(self, box: str, changed: Callable[[], None]) -> None:
        """Call `changed` whenever what is wanted from the box may have changed."""
        self._watchers[box] = changed

    async def boxes_heard(self) -> None:
        """Return once every box was heard, or after the time that a fresh router gives them."""
        if not self._all_heard.is_set():
            try:
                async with asyncio.timeout(FIRST_HEARING):
                    await self._all_heard.wait()
            except TimeoutError:
                self._all_heard.set()

    # What follows.

    def act(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, News):
                self._round.add(ticket.id for ticket in self.line.waiting().get(effect.model, ()))
            elif (place := self._places.get(effect.ticket.id)) is not None:
                place.hear(effect)
        if touched := self.line.take_touched():
            for box in touched & self._watchers.keys():
                self._watchers[box]()
        self.heart.alarm.set(self.line.deadline(time.monotonic()))

    def _tell_of_news(self, id: str) -> None:
        place = self._places.get(id)
        if place is not None and place.sent is None:  # else there is better news for it
            place.hear(None)

    def _tick(self) -> None:
        self.act(self.line.tick(time.monotonic()))
