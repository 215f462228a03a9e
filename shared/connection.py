"""One connection of the data plane to a server: HTTP/1.1 by httptools, one exchange at a time.

What arrives together is passed on together and nothing of a body is looked at. A connection serves
another request only when the one before was answered to its end in perfect order; whatever is left
dirty is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httptools

from shared.headers import Headers

READ = 32 * 2**10  # bytes of one read
HIGH_WATER = 32 * 2**10  # bytes that nobody has taken yet: above, nothing more is read
LARGEST_HEAD = 64 * 2**10  # bytes before an answer's body


class WireError(Exception):
    """There is no answer, or none to its end."""


class ConnectFailed(WireError):
    """The server has not seen the request."""


class BrokenOff(WireError):
    """The connection ended, or spoke no HTTP, before the answer was whole."""


class Silent(WireError):
    """Nothing came for `limit` seconds."""

    def __init__(self, limit: float) -> None:
        super().__init__(f"nothing came for {limit:g} s")
        self.limit = limit


class Response:
    """One answer, from its head on: `headers` in lower case. Read it to its end or not, but close
    it."""

    __slots__ = (
        "_chunks",
        "_connection",
        "_error",
        "_over",
        "_size",
        "_waiter",
        "framed",
        "headers",
        "status",
    )

    def __init__(self, connection: Connection) -> None:
        self.status = 0  # until its head is there
        self.headers: Headers = []
        self.framed = False  # whether it says itself where it ends, or ends with its connection
        self._connection: Connection | None = connection
        self._chunks: list[bytes] = []
        self._size = 0
        self._over = False
        self._error: WireError | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def read(self) -> bytes:
        """What has come since, once there is something; nothing at the end. Raises WireError when
        all was read of an answer that is not whole."""
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._over:
                return b""
            await self._wait()
        chunks, self._chunks, self._size = self._chunks, [], 0
        if self._connection is not None:
            self._connection.taken()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def first_bytes(self, limit: int) -> bytes:
        """The body, of little more than `limit` bytes at most: what is longer is broken off."""
        body = bytearray()
        while len(body) <= limit and (chunk := await self.read()):
            body += chunk
        return bytes(body)

    def get(self, name: bytes) -> bytes | None:
        """The first of its headers of that name."""
        return next((value for key, value in self.headers if key == name), None)

    def close(self) -> None:
        """Give the connection back if it is as good as new, else end it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.leave()

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What its connection tells.

    async def head(self) -> None:
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._wait()

    @property
    def over(self) -> bool:
        return self._over or self._error is not None

    @property
    def full(self) -> bool:
        return self._size > HIGH_WATER

    def begin(self, status: int, headers: Headers, framed: bool) -> None:
        self.status, self.headers, self.framed = status, headers, framed

    def add(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._size += len(chunk)

    def end(self, error: WireError | None = None) -> None:
        if not self.over:
            self._over, self._error = error is None, error
        self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


class Connection(asyncio.BufferedProtocol):
    """`released(connection, good)` is called when it has no exchange any more: `good` if it may
    serve another one. `buffer` may be shared: it is read at once whenever it was filled."""

    def __init__(self, buffer: memoryview, released: Callable[[Connection, bool], None]) -> None:
        self._buffer = buffer
        self._released = released
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None  # asyncio's or uvloop's
        self._parser = httptools.HttpResponseParser(self)
        self._response: Response | None = None
        self._headers: Headers = []
        self._bodiless = False  # the answer to a HEAD
        self._informs = False  # a 1xx, which is not the answer yet
        self._good = False  # the exchange is over, and all was in order
        self._paused = False
        self._head_size = 0  # bytes that came before the answer's body
        self._first_byte: float | None = None  # seconds, as `_idle`
        self._idle: float | None = None
        self._heard_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.idle_since = 0.0  # while it has no exchange
        self.reused = False

    @property
    def heard(self) -> bool:
        """Whether anything came since the last request was sent."""
        return self._head_size > 0

    @property
    def _is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def _unsent(self) -> int:
        """Bytes."""
        size: int = self._transport.get_write_buffer_size()
        return size

    # One exchange.

    def send(
        self, head: bytes, body: bytes, first_byte: float | None, idle: float | None, bodiless: bool
    ) -> Response:
        """Send a request; the answer has nothing yet. Limits of silence in seconds."""
        response = self._response = Response(self)
        self._bodiless, self._good, self._head_size, self._headers = bodiless, False, 0, []
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
            self.idle_since, self.reused = self._loop.time(), True
        else:
            self.abort()
        self._released(self, good)

    def abort(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()

    # What the loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        response = self._response
        if response is None or response.over:
            self._dirty()
            return
        self._heard_at = self._loop.time()
        if not response.status:
            self._head_size += nbytes
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._good = False
            response.end(BrokenOff(f"that is no HTTP: {error}"))
        if not response.status and self._head_size > LARGEST_HEAD:
            response.end(BrokenOff(f"its head is larger than {LARGEST_HEAD} bytes"))
        elif response.full and not self._paused and not response.over:
            self._paused = True
            self._transport.pause_reading()
        response.wake()

    def eof_received(self) -> bool:
        return False  # the transport closes itself

    def connection_lost(self, error: Exception | None) -> None:
        self._good = False
        if self._response is None:
            self._released(self, False)
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
        names = {name for name, _ in self._headers}
        framed = b"content-length" in names or b"transfer-encoding" in names
        self._response.begin(status, self._headers, framed or self._bodiless)
        self._watch_silence()
        if self._bodiless:  # the parser now waits for a body: nothing more can be read from here
            self._response.end()

    def on_body(self, body: bytes) -> None:
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
        limit = self._limit()
        if limit is not None and self._loop.time() >= self._heard_at + limit:
            response.end(Silent(limit))
        self._watch_silence()
