"""One client's answer: progress while it waits, the engine's bytes untouched, the release.

A streaming request gets its headers as soon as it has to wait; what goes wrong after them goes
into the stream. Everything is given back by `with`, and a client that leaves ends it all.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple
from urllib.parse import quote

from router.call import Call, with_model, with_usage
from router.dispatch import BoxLost, Place
from router.effects import Send
from router.failures import fell_silent, no_stream, not_let_in
from router.peer import Peer
from router.progress import interval, served, switching
from router.voice import Voice
from shared import sse
from shared.answer import Answer
from shared.errors import EngineFailed, SwapyardError
from shared.headers import (
    EVENT_STREAM,
    RESPONSE_HEADERS,
    Headers,
    is_events,
    only,
    unbuffered,
)
from shared.wire import BrokenOff, ConnectFailed, Deadlines, Pool, Response, WireError

Refusal = tuple[str, int]  # boot and number of the Status by which a box refused
ERROR_LIMIT = 64 * 2**10  # bytes of an engine's error that are read to be told in the stream

# Silence is the engine's own affair while it thinks: its sidecar knows how long it may, and a box
# that falls silent itself is noticed by its events.
DEADLINES = Deadlines()


class Upstream(NamedTuple):
    """How to reach the boxes for one request."""

    pool: Pool
    headers: Headers  # the client's, as far as they go on
    peers: Mapping[str, Peer]  # by box


class Relay:
    """Serves one request. `interval`: seconds between two frames while few wait."""

    __slots__ = (
        "_answer",
        "_call",
        "_interval",
        "_place",
        "_response",
        "_upstream",
        "_voice",
        "_waited",
    )

    def __init__(
        self,
        call: Call,
        voice: Voice,
        interval: float,
        place: Place,
        upstream: Upstream,
        answer: Answer,
    ) -> None:
        self._call = call
        self._voice = voice
        self._interval = interval
        self._place = place
        self._upstream = upstream
        self._answer = answer
        self._waited = 0.0  # seconds
        self._response: Response | None = None

    async def run(self) -> None:
        """Raises SwapyardError when there is no answer, or none to its end."""
        try:
            await self._say(self._voice.opens(time.time()))
            while self._response is None:
                turn = await self._turn()
                self._waited = time.monotonic() - self._place.ticket.arrived
                await self._open(turn)
            with self._place.while_box_is_heard():
                await self._pass_on(self._response)
        except WireError as error:
            raise died(error) from None
        except sse.EventTooLarge as error:
            raise EngineFailed(str(error), code="event_too_large") from None
        except BoxLost:
            raise fell_silent(self._place.box) from None
        finally:
            if self._response is not None:
                self._response.close()

    @property
    def outcome(self) -> str:
        """For the log. Of a stream that ends with an error its sidecar tells: here its bytes are
        passed on, and not read."""
        return "failed" if self._response is not None and self._response.status >= 500 else "served"

    def summary(self) -> dict[str, object]:
        """For the log: one line per request, and nothing of what it said."""
        place, response = self._place, self._response
        return {
            "box": place.box,
            "reason": place.sent.reason if place.sent else None,
            "waited_ms": round(self._waited * 1000),
            "status": response.status if response else None,
        }

    # While it waits.

    async def _turn(self) -> Send:
        """Wait for a box, and tell the client meanwhile what goes on."""
        while (turn := self._place.turn()) is None:
            if self._voice.talks:
                await self._tell()
            await self._place.wait(self._pause() if self._voice.talks else None)
        return turn

    async def narrate(self) -> None:
        """Tell the client what goes on, until cancelled."""
        while True:
            await self._tell()
            await self._place.wait(self._pause())

    def _pause(self) -> float:
        return interval(self._interval, self._place.waiting)

    async def _tell(self) -> None:
        told = switching(self._place.tell())
        if self._place.sent is not None:
            told |= served(self._place.sent.reason, self._waited)
        await self._say(self._voice.tells(told, time.time()))

    async def _say(self, frame: bytes) -> None:
        if not frame:
            return
        if not self._answer.begun:
            await self._answer.begin(200, EVENT_STREAM, self._fails)
        await self._answer.chunk(frame)

    def _fails(self, error: SwapyardError) -> bytes:
        return self._voice.fails(error, time.time())

    # When it is its turn.

    async def _open(self, turn: Send) -> None:
        """Ask the box; if it does not take the request, or is gone before its answer begins, the
        request is at its old place again."""
        try:
            refusal = await self._narrated(turn) if self._voice.talks else await self._ask(turn)
        except ConnectFailed:
            self._place.unreachable()
            return
        except (BrokenOff, BoxLost):
            self._drop()
            self._place.broken_off()
            return
        if refusal is not None:
            self._drop()
            self._place.refused(*refusal)

    async def _narrated(self, turn: Send) -> Refusal | None:
        """As `_ask`, and the client is told what goes on if that takes long."""
        async with _Narration(self, self._pause()):
            return await self._ask(turn)

    async def _ask(self, turn: Send) -> Refusal | None:
        """Sets the response; how the box has refused the request, if it has."""
        peer, path = self._upstream.peers[turn.box], quote(self._call.path)
        target = f"/engines/{self._place.ticket.model}/v1/{path}"
        if self._call.query:
            target = f"{target}?{self._call.query}"
        headers = [*self._upstream.headers, *peer.headers]
        with self._place.while_box_is_heard():
            response = self._response = await self._upstream.pool.send(
                peer.origin, b"POST", target.encode("latin-1"), headers, self._body(), DEADLINES
            )
            if response.get(b"www-authenticate") is not None:  # no engine's answer has that
                raise not_let_in(self._place.box)
            return await refusal_in(response)

    def _body(self) -> bytes:
        """As it came, but for the name by which the box's engine knows the model."""
        name, body = self._place.served_name(), self._call.body
        if self._voice.needs_usage:
            body = with_usage(body)
        return body if self._call.name == name else with_model(body, name)

    def _drop(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    async def _pass_on(self, response: Response) -> None:
        headers = only(response.headers, RESPONSE_HEADERS)
        of_events = is_events(headers)
        if not self._answer.begun:
            said = unbuffered(headers) if of_events else headers
            await self._answer.begin(response.status, [*said, *self._decision()])
        elif response.status == 200 and of_events:
            await self._tell()
        else:
            raise no_stream(response.status, await response.first_bytes(ERROR_LIMIT))
        gauge = sse.Gauge() if of_events else None
        while chunk := await response.read():
            if gauge is not None:
                gauge.feed(chunk)
            for piece in self._voice.answers(chunk, time.time()):
                await self._answer.chunk(piece)
        await self._answer.end(self._voice.ends(time.time()))

    def _decision(self) -> Headers:
        """What was decided for a request whose headers can still say it."""
        sent = self._place.sent
        assert sent is not None
        return [
            (b"x-swapyard-box", self._place.box.encode()),
            (b"x-swapyard-model", self._place.ticket.model.encode()),
            (b"x-swapyard-reason", sent.reason.encode()),
            (b"x-swapyard-wait-ms", b"%d" % round(self._waited * 1000)),
        ]


class _Narration:
    """From `patience` seconds on the client is told what goes on, until the block ends."""

    __slots__ = ("_patience", "_relay", "_task", "_timer")

    def __init__(self, relay: Relay, patience: float) -> None:
        self._relay = relay
        self._patience = patience
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._patience, self._begin)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            if not self._task.cancelled():
                self._task.result()  # which is a fault of ours

    def _begin(self) -> None:
        self._task = asyncio.ensure_future(self._relay.narrate())


async def refusal_in(response: Response) -> Refusal | None:
    """Boot and number of the Status by which a box has not taken the request; None from one that
    has. What nobody can read is no better than half a refusal."""
    if response.get(b"x-swapyard-refused") is None:
        return None
    body = await response.first_bytes(ERROR_LIMIT)
    try:
        match json.loads(body):
            case {"boot": str(boot), "seq": int(seq)}:
                return boot, seq
    except ValueError:
        pass
    raise BrokenOff("a refusal that cannot be read")


def died(error: WireError) -> EngineFailed:
    return EngineFailed(f"The box ended the connection: {error}", code="engine_died")
