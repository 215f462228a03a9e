"""One client's answer: progress while it waits, the engine's bytes untouched, the release.

A streaming request gets its headers as soon as it has to wait; what goes wrong after them goes
into the stream. Everything is given back by `with`, and a client that leaves ends it all.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from router.call import Call, with_model, with_usage
from router.dispatch import Place
from router.effects import Send
from router.failures import fell_silent, no_stream, not_let_in
from router.progress import interval, served, switching
from router.voice import Voice
from shared.errors import EngineFailed, SwapyardError
from shared.wire import RESPONSE_HEADERS, Answer, Headers, first_bytes, is_events, only

T = TypeVar("T")

EVENT_STREAM: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx would keep the frames until the answer's end
]
ERROR_LIMIT = 64 * 2**10  # bytes of an engine's error that are read to be told in the stream


@dataclass(frozen=True, slots=True)
class Upstream:
    """How to reach the boxes for one request."""

    http: httpx.AsyncClient
    headers: Headers  # the client's, as far as they go on
    keys: Mapping[str, Headers]  # by box: the header that shows it our key


class Relay:
    """Serves one request. `interval`: seconds between two frames while few wait."""

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
        self._response: httpx.Response | None = None

    async def run(self) -> None:
        """Raises SwapyardError when there is no answer, or none to its end."""
        try:
            await self._say(self._voice.opens(time.time()))
            while self._response is None:
                turn = await self._narrated(self._place.turn())
                self._waited = time.monotonic() - self._place.ticket.arrived
                await self._narrated(self._open(turn), patience=self._pause())
            async with self._place.while_box_is_heard():
                await self._pass_on(self._response)
        except httpx.HTTPError as error:
            raise died(error) from None
        except TimeoutError:
            raise fell_silent(self._place.tell().box or "") from None
        finally:
            if self._response is not None:
                await self._response.aclose()

    def summary(self) -> dict[str, object]:
        """For the log: one line per request, and nothing of what it said."""
        place, response = self._place, self._response
        return {
            "box": place.tell().box,
            "reason": place.sent.reason if place.sent else None,
            "waited_ms": round(self._waited * 1000),
            "status": response.status_code if response else None,
        }

    # While it waits.

    async def _narrated(self, work: Awaitable[T], patience: float = 0.0) -> T:
        """Await `work`; from `patience` seconds on, tell the client meanwhile what goes on."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task}, timeout=patience)
            while self._voice.talks and not task.done() and not self._place.over:
                await self._tell()
                await self._until_done_or_news(task)
            return await task
        finally:
            task.cancel()

    async def _until_done_or_news(self, task: asyncio.Future[T]) -> None:
        news = asyncio.ensure_future(self._place.news())
        either: set[asyncio.Future[Any]] = {task, news}
        try:
            await asyncio.wait(either, timeout=self._pause(), return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()

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
        model = self._place.ticket.model
        query = f"?{self._call.query}" if self._call.query else ""
        request = self._upstream.http.build_request(
            "POST",
            f"{turn.box}/engines/{model}/v1/{quote(self._call.path)}{query}",
            headers=[*self._upstream.headers, *self._upstream.keys[turn.box]],
            content=self._body(),
        )
        try:
            async with self._place.while_box_is_heard():
                response = await self._upstream.http.send(request, stream=True)
                refusal = await refusal_in(response)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            self._place.unreachable()
            return
        except (httpx.TransportError, TimeoutError):
            self._place.broken_off()
            return
        if "www-authenticate" in response.headers:  # no engine's answer has that
            await response.aclose()
            raise not_let_in(self._place.tell().box or turn.box)
        if refusal is not None:
            self._place.refused(*refusal)
        else:
            self._response = response

    def _body(self) -> bytes:
        """As it came, but for the name by which the box's engine knows the model."""
        name, body = self._place.served_name(), self._call.body
        if self._voice.needs_usage:
            body = with_usage(body)
        return body if self._call.name == name else with_model(body, name)

    async def _pass_on(self, response: httpx.Response) -> None:
        headers = only(response.headers.raw, RESPONSE_HEADERS)
        if not self._answer.begun:
            await self._answer.begin(response.status_code, [*headers, *self._decision()])
        elif response.status_code == 200 and is_events(headers):
            await self._tell()
        else:
            body = await first_bytes(response, ERROR_LIMIT)
            raise no_stream(response.status_code, body)
        async for chunk in response.aiter_raw():
            for piece in self._voice.answers(chunk, time.time()):
                await self._answer.chunk(piece)
        await self._answer.end(self._voice.ends(time.time()))

    def _decision(self) -> Headers:
        """What was decided for a request whose headers can still say it."""
        sent = self._place.sent
        assert sent is not None
        said = {
            "x-swapyard-box": self._place.tell().box or "",
            "x-swapyard-model": self._place.ticket.model,
            "x-swapyard-reason": sent.reason,
            "x-swapyard-wait-ms": str(round(self._waited * 1000)),
        }
        return [(name.encode(), value.encode()) for name, value in said.items()]


async def refusal_in(response: httpx.Response) -> tuple[str, int] | None:
    """Boot and number of the Status by which a box has not taken the request; None from one that
    has. What nobody can read is no better than half a refusal."""
    if "x-swapyard-refused" not in response.headers:
        return None
    async with aclosing(response):
        body = await first_bytes(response, ERROR_LIMIT)
    try:
        match json.loads(body):
            case {"boot": str(boot), "seq": int(seq)}:
                return boot, seq
    except ValueError:
        pass
    raise httpx.RemoteProtocolError("a refusal that cannot be read")


def died(error: httpx.HTTPError) -> EngineFailed:
    said = str(error) or type(error).__name__
    return EngineFailed(f"The box ended the connection: {said}", code="engine_died")
