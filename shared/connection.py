"""One connection of the data plane to a server: HTTP/1.1 by httptools, one exchange at a time.

What arrives together is passed on together and nothing of a body is looked at. A connection serves
another request only when the one before was answered to its end in perfect order; whatever is left
dirty is closed.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, Protocol

import httptools

from shared.headers import Headers
from shared.response import HIGH_WATER, BrokenOff, Response, Silent

READ = 32 * 2**10  # bytes of one read
LARGEST_HEAD = 64 * 2**10  # bytes before an answer's body, or behind it


class Server(Protocol):
    """Whom a connection leads to."""

    def released(self, connection: Connection, good: bool) -> None:
        """It has no exchange any more; `good`: it may serve another one."""

    def heard_since(self, moment: float) -> bool:
        """On whichever connection."""


class Connection(asyncio.BufferedProtocol):
    """`buffer` may be shared: it is read at once whenever it was filled."""

    def __init__(self, buffer: memoryview, server: Server) -> None:
        self._buffer = buffer
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None  # asyncio's or uvloop's
        self._parser = httptools.HttpResponseParser(self)
        self._response: Response | None = None
        self._headers: Headers = []
        self._bodiless = False  # the answer to a HEAD
        self._informs = False  # a 1xx, which is not the answer yet
        self._good = False  # the exchange is over, and all was in order
        self._paused = False
        self._bare = 0  # bytes since the last one of a body: of a head, of trailers
        self.heard = False  # whether anything came since the last request was sent
        self._first_byte: float | None = None  # seconds, as `_idle`
        self._idle: float | None = None
        self._heard_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.idle_since = 0.0  # while it has no exchange

    @property
    def _is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def _unsent(self) -> int:
        """Bytes."""
        size: int = self._transport.get_write_buffer_size()
        return size

    @property
    def last_heard(self) -> float:
        """When something came of the answer, by the loop's clock; minus infinity if nothing did."""
        if self._paused:  # there is more than we take
            return self._loop.time()
        return self._heard_at if self.heard else -math.inf

    # One exchange.

    def send(
        self, head: bytes, body: bytes, first_byte: float | None, idle: float | None, bodiless: bool
    ) -> Response:
        """Send a request; the answer has nothing yet. Limits of silence in seconds."""
        response = self._response = Response(self)
        self._bodiless, self._good, self._headers = bodiless, False, []
        self._bare, self.heard = 0, False
        self._first_byte, self._idle = first_byte, idle
        self._heard_at = self._loop.time()
        self._watch_silence()
        if not self._is_open:
            response.end(BrokenOff("it was closed before the request was sent"))
        elif len(body) <= HIGH_WATER:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        return response

    def taken(self) -> None:
        """Somebody has read all that came."""
        if self._paused:
            self._paused, self._heard_at = False, self._loop.time()
            self._transport.resume_reading()

    def leave(self) -> None:
        """The exchange is over for the one who asked."""
        self._response = None
        # An answer that came before its request was sent whole leaves half a request behind.
        good = self._good and not self._paused and self._is_open and not self._unsent
        if good:
            self.idle_since = self._loop.time()
        else:
            self.abort()
        self._server.released(self, good)

    def give_up(self, limit: float) -> None:
        """Its server says nothing to anybody: whoever asked need not wait for their own limit."""
        if self._response is not None:
            self._response.end(Silent(limit, to_all=True))

    def abort(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()

    # What the loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        if (limit := getattr(transport, "set_read_buffer_limits", None)) is not None:
            limit(high=HIGH_WATER)  # of TLS, which reads ahead of us

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        response = self._response
        if response is None or response.over:
            self._dirty()
            return
        self._heard_at = self._loop.time()
        self.heard = True
        self._bare += nbytes
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._good = False
            response.end(BrokenOff(f"that is no HTTP: {error}"))
        if self._bare > LARGEST_HEAD:
            response.end(BrokenOff(f"more than {LARGEST_HEAD} bytes of a head or of trailers"))
        elif response.full and not self._paused and not response.over:
            self._paused = True
            self._transport.pause_reading()
        response.wake()

    def eof_received(self) -> bool:
        return False  # the transport closes itself

    def connection_lost(self, error: Exception | None) -> None:
        self._good = False
        if self._response is None:
            self._server.released(self, False)
            return
        if error is None and self._response.status and not self._response.framed:
            self._response.end()
        else:
            said = str(error) if error else "it was closed before the end of the answer"
            self._response.end(BrokenOff(said))

    def _dirty(self) -> None:
        """Bytes that nobody asked for."""
        self._good = False
        if self._response is None:
            self.abort()

    # What the parser tells.

    def on_message_begin(self) -> None:
        if self._response is None or self._response.over:
            self._good = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._response is not None and not self._response.status:  # no trailer
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._informs = status < 200
        if self._informs or self._response is None or self._response.over:
            self._headers = []
            return
        framed = any(
            name == b"content-length" or (name == b"transfer-encoding" and _is_chunked(value))
            for name, value in self._headers
        )
        self._response.begin(status, self._headers, framed or self._bodiless)
        self._watch_silence()
        if self._bodiless:  # the parser now waits for a body: nothing more can be read from here
            self._response.end()

    def on_body(self, body: bytes) -> None:
        self._bare = 0
        if self._response is not None and not self._response.over:
            self._response.add(body)

    def on_message_complete(self) -> None:
        if self._informs or self._response is None or self._response.over:
            return
        self._good = self._parser.should_keep_alive()
        self._response.end()

    # Silence.

    def _watch_silence(self) -> None:
        """One timer looks now and then, instead of one that is set anew by each chunk."""
        limit = self._limit()
        if limit is None:
            return
        if self._timer is not None:
            if self._timer.when() <= self._heard_at + limit:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(self._heard_at + limit, self._look_for_silence)

    def _limit(self) -> float | None:
        begun = self._response is not None and self._response.status
        return self._idle if begun else self._first_byte

    def _look_for_silence(self) -> None:
        self._timer = None
        response = self._response
        if response is None or response.over:
            return
        if self._paused:  # the silence is ours
            self._heard_at = self._loop.time()
        limit, now = self._limit(), self._loop.time()
        if limit is not None and now >= self._heard_at + limit:
            response.end(Silent(limit, to_all=not self._server.heard_since(now - limit)))
        self._watch_silence()


def _is_chunked(coding: bytes) -> bool:
    """As the last coding of several. With any other, an answer ends with its connection."""
    return coding.rpartition(b",")[2].strip().lower() == b"chunked"
