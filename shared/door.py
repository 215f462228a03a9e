"""The door of both programs: uvicorn's HTTP/1.1, with the patience and the limits that it lacks.

What is not whole in time, too large, or could be read in two ways is answered in OpenAI's shape,
and that is the last that its connection hears; `head.py` decides which heads are taken,
`patience.py` how long a client is waited for. Who takes nothing, or says that nothing more will
come, has left, and the application that serves it is told at once.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, Final, NoReturn

import httptools
import structlog
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from shared import head, patience, turnstile
from shared.cork import Corked
from shared.descriptors import Room
from shared.errors import InternalError, RequestTimeout, SwapyardError
from shared.exchange import Exchange, Flow, begin, last_word
from shared.vigil import Vigil

WRITE_BUFFER = 64 * 1024  # bytes of answers that wait for a client
LINGER = 64 * 2**20  # bytes that are thrown away, so that a client that sends them hears why
PIPELINED = 16  # requests that wait for the answers before theirs

NOTHING: Final = 0  # of a message has come
HEAD: Final = 1
BODY: Final = 2

log = structlog.get_logger()


class Door(HttpToolsProtocol):
    # With these in its dict it would be no longer of the small kind, of 30 attributes at most, and
    # 1.3 KiB larger.
    __slots__ = (
        *("_limits", "_vigil", "_corked", "_answering", "_queue"),
        *("_reading", "_watched", "_came", "_begun", "_body"),
        *("_why", "_deaf", "_last_word", "_room"),
    )
    cycle: Exchange  # the newest one

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        limits: patience.Limits = patience.DEFAULT,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._answering: Exchange | None = None
        self._queue: list[Exchange] = []  # instead of:
        del self.pipeline
        # What is being read.
        self._reading = self._watched = NOTHING
        self._came = 0  # bytes since the last whole head or message, or the last piece of a body
        self._begun = 0.0  # when we began to wait for it
        self._body = 0  # bytes of a body since then
        # How it ends.
        self._why: SwapyardError | None = head.NO_HTTP  # if the parser stops
        self._deaf = False  # whatever comes now is thrown away
        self._last_word: bytes | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        corked: Any = Corked(transport)
        super().connection_made(corked)
        self._corked, self.flow = corked, Flow(corked)
        unsent = corked.get_write_buffer_size
        self._vigil = Vigil(self.loop, self._limits, self._overdue, unsent, self._drop)
        self._room = turnstile.room_for(transport)
        self._vigil.wait_for(self._limits.head if self._room is Room.PLENTY else turnstile.BRIEF)
        if self._room is Room.NONE:
            self._deaf = True
            turnstile.turn_away(corked, self.server_state.default_headers)

    # What comes in.

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            self._throw_away(len(data))
            return
        self._came += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as pause:
            self._ignore_upgrade(data[pause.args[0] :])
        except httptools.HttpParserError as error:
            if isinstance(error, httptools.HttpParserCallbackError) and self._why is head.NO_HTTP:
                log.exception("a fault of the door")  # for nobody had it stop
                self._why = InternalError()
            self._refuse(self._why)
        else:
            if self._reading != NOTHING:
                self._not_whole_yet()
            elif self._answering is not None:
                self._vigil.deadline = math.inf

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._reading = HEAD
        self._watched = NOTHING
        self._body = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._reading == HEAD:  # and no trailer, which nobody here reads
            name = head.NAMES.get(name) or name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if why := head.refusal(method, version, self.url, self.headers):
            self._stop(why)
        if self.parser.should_upgrade():
            return
        if len(self._queue) == PIPELINED:
            self._queue[-1].keep_alive = False
            self._stop(None)
        if turnstile.is_refused(self._room, self.url):
            self._stop(turnstile.CROWD)
        self._reading, self._came = BODY, 0
        self.cycle = exchange = begin(self, method, version, self._part)
        exchange.keep_alive &= self._room is Room.PLENTY
        if self._answering is None:
            self._answer(exchange)
        else:
            self._queue.append(exchange)

    def on_body(self, body: bytes) -> None:
        exchange = self.cycle
        self._came = 0
        self._body += len(body)
        exchange.body += body
        if len(exchange.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        exchange.message_event.set()

    def on_message_complete(self) -> None:
        if self._reading == BODY:
            self._reading, self._came = NOTHING, 0
            self.cycle.more_body = False
            self.cycle.message_event.set()
            # An application that has all of it asks for no more; and unread is also the news that
            # its client has left.
            self.flow.resume_reading()

    def eof_received(self) -> None:
        if self._answering is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._vigil.end()
        super().connection_lost(exc)
        for exchange in (self._answering, *self._queue):
            if exchange is not None:
                exchange.left()
        self._answering, self._queue = None, []
        self.cycle = None  # type: ignore[assignment]  # it knows us, too

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Java's client offers HTTP/2 with its first request, and llhttp would not read its body:
        so the same request is read once more, without the offer."""
        method, version = self.parser.get_method(), self.parser.get_http_version()
        again = head.without_upgrade(method, version, self.url, self.headers)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._reading = NOTHING
        self.data_received(again + rest)

    # One request, and the answer to it.

    def _answer(self, exchange: Exchange) -> None:
        self._answering = exchange
        self._start_asgi_task(exchange, self.app)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._answering = None
        self._corked.flush()
        if self.transport.is_closing():
            self._vigil.see_it_taken()
        elif self._queue:
            self._answer(self._queue.pop(0))
        elif self._last_word is not None:
            self._say(self._last_word)
        elif not self._deaf:
            self.flow.resume_reading()
            if self._reading == NOTHING:
                self._vigil.wait_for(self._limits.idle)

    def pause_writing(self) -> None:
        self.flow.pause_writing()
        self._vigil.see_it_taken()

    def resume_writing(self) -> None:
        self.flow.resume_writing()
        if not self.transport.is_closing():
            self._vigil.it_is_taken()

    # What is refused, and how a connection ends.

    def _not_whole_yet(self) -> None:
        """Something of a message is still to come."""
        is_head = self._reading == HEAD
        if self._watched != self._reading:
            self._watched = self._reading
            self._begun = self.loop.time()
            self._vigil.wait_for(self._limits.head if is_head else self._limits.body)
        if is_head:
            if why := head.too_large(len(self.url), len(self.headers), self._came):
                self._refuse(why)
        elif self._came > patience.FRAMING:
            self._refuse(head.FLOOD)

    def _overdue(self, now: float) -> None:
        if self.transport.is_closing():
            return
        if self._reading == HEAD:
            self._refuse(RequestTimeout("head"))
        elif self._reading == BODY:
            if self.flow.read_paused or self.cycle.waiting_for_100_continue:
                # It is for us to read on.
                self._begun, self._body = now, 0
            self._vigil.deadline = patience.body_until(self._begun, self._body, self._limits)
            if self._vigil.deadline <= now:
                self._refuse(RequestTimeout("body"))
        else:
            self.transport.close()
            self._vigil.see_it_taken()

    def _drop(self) -> None:
        log.info("dropped a client that takes nothing", client=self._who())
        self.transport.abort()

    def _stop(self, why: SwapyardError | None) -> NoReturn:
        """The parser reads no further. None: without a word."""
        self._why = why
        raise httptools.HttpParserError

    def _refuse(self, why: SwapyardError | None) -> None:
        self._deaf, self._reading, self._came = True, NOTHING, 0
        self._vigil.deadline = math.inf
        self.flow.resume_reading()
        exchange: Exchange | None = self.cycle
        if exchange is not None and exchange.more_body:
            if exchange.response_started:
                return  # that answer is the last word
            self._give_up(exchange)
        if why is None:
            return
        log.info("refused", code=why.code, client=self._who())
        self._last_word = last_word(why, self.server_state.default_headers)
        if self._answering is None:
            self._say(self._last_word)

    def _give_up(self, exchange: Exchange) -> None:
        """Its body will never be whole."""
        if exchange is self._answering:
            self._answering = None
            exchange.left()
        else:
            self._queue.remove(exchange)

    def _say(self, words: bytes) -> None:
        self.transport.write(words)
        self._part()

    def _part(self) -> None:
        """The end of what we say. What the client still sends is read for a moment: a connection
        that is closed on unread bytes is reset, and the client would lose the answer."""
        if not self.transport.is_closing():
            self._deaf, self._reading, self._came = True, NOTHING, 0
            for exchange in self._queue:
                exchange.left()
            self._queue.clear()
            self.flow.resume_reading()
            self.transport.write_eof()
            self._vigil.wait_for(self._limits.linger)

    def _throw_away(self, count: int) -> None:
        self._came += count
        if self._came > LINGER:
            self.transport.abort()

    def _who(self) -> str | None:
        return self.client[0] if self.client else None
