"""One request and its answer: uvicorn's cycle, slim while it waits, and told of a leaving client.

An `asyncio.Event` takes 1 KiB, and uvicorn keeps two for each connection. Here they are made when
somebody waits, and dropped with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Final, Literal, cast
from urllib.parse import unquote

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from shared.errors import SwapyardError
from shared.head import path_and_query

# In the scope's extensions.
LEAVING = "swapyard.leaving"  # the Leaving of this request
SAID = "swapyard.said"  # headers that its answer has, whoever gives it


class Leaving:
    """Calls back at once when the client leaves before its answer is complete."""

    __slots__ = ("_callback", "_happened")

    def __init__(self) -> None:
        self._callback: Callable[[], None] | None = None
        self._happened = False

    def __call__(self, callback: Callable[[], None] | None) -> None:
        """Set the one that is called, once; None: nobody any more."""
        self._callback = callback
        if self._happened and callback is not None:
            asyncio.get_running_loop().call_soon(self._tell)

    def happens(self) -> None:
        self._happened = True
        self._tell()

    def _tell(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Bell(asyncio.Event):
    """As an Event, of 64 bytes while nobody waits."""

    __slots__ = ("_event", "_rung")

    def __init__(self, rung: bool = False) -> None:
        self._event: asyncio.Event | None = None
        self._rung = rung

    def is_set(self) -> bool:
        return self._rung

    def set(self) -> None:
        self._rung = True
        event, self._event = self._event, None
        if event is not None:
            event.set()

    def clear(self) -> None:
        self._rung = False

    async def wait(self) -> Literal[True]:
        if not self._rung:
            if self._event is None:
                self._event = asyncio.Event()
            await self._event.wait()
        return True


class Flow(FlowControl):
    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.read_paused = False
        self.write_paused = False
        self._is_writable_event = Bell(rung=True)


class Exchange(RequestResponseCycle):
    """`send` is our own: without a coroutine for each piece, and without looking at each header of
    an answer by regular expressions. Names of headers are in lower case, as ASGI has them."""

    leaving: Leaving
    server: ServerState  # whose headers say what time it is now, not when the request came
    part: Callable[[], None]  # instead of closing at once

    def left(self) -> None:
        """The client is not there any more, or its request will never be whole."""
        if not self.response_complete:
            self.disconnected = True
            self.message_event.set()
            self.leaving.happens()

    def send(self, message: ASGISendEvent) -> Awaitable[None]:  # type: ignore[override]
        if self.disconnected or self.transport.is_closing():
            # Nothing holds up an application that goes on: so that it holds up nobody else, and
            # the news of its client's leaving neither, others have their turn.
            self.disconnected = True
            return asyncio.sleep(0)
        if self.flow.write_paused:
            return self._send_later(message)
        self._send(message)
        return _SENT

    async def _send_later(self, message: ASGISendEvent) -> None:
        await self.flow.drain()
        if not self.disconnected:
            self._send(message)

    def _send(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.body":
            if self.response_complete or not self.response_started:
                raise RuntimeError("A piece of an answer out of its turn.")
            self._piece(message.get("body", b""), message.get("more_body", False))
        elif message["type"] == "http.response.start":
            if self.response_started:
                raise RuntimeError("A second answer to one request.")
            self._head(message["status"], message.get("headers", ()))

    def _head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        if self.more_body:
            # What is still to come of the body will not be read: no further request can follow.
            self.keep_alive = False
            self.transport = _Parting(self.transport, self.part)  # type: ignore[assignment]
        said = self.scope["extensions"].get(SAID, ())
        pieces = [STATUS_LINE[status]]
        for name, value in (*self.server.default_headers, *said, *headers):
            if name == b"content-length":
                self.chunked_encoding, self.expected_content_length = False, int(value)
            elif name == b"connection" and value.lower() == b"close":
                self.keep_alive = False
                continue
            pieces += (name, b": ", value, b"\r\n")
        if self.chunked_encoding is None:
            self._frame(status, pieces)
        if not self.keep_alive:
            pieces += (b"connection", b": ", b"close", b"\r\n")
        head = b"".join(pieces)
        lines = 1 + len(pieces) // 4
        if not head.count(b"\r") == head.count(b"\n") == lines:
            raise RuntimeError("A header of an answer holds the end of a line.")
        self.transport.write(head + b"\r\n")

    def _frame(self, status: int, pieces: list[bytes]) -> None:
        """Of an answer that does not say how long it is. To HTTP/1.0, which knows no chunks, it
        ends with its connection."""
        if status in (204, 304):
            self.chunked_encoding = False
        elif self.scope["method"] != "HEAD" and self.scope["http_version"] != "1.0":
            self.chunked_encoding = True
            pieces += (b"transfer-encoding", b": ", b"chunked", b"\r\n")

    def _piece(self, body: bytes, more: bool) -> None:
        if self.chunked_encoding:
            end = b"" if more else b"0\r\n\r\n"
            if body:
                self.transport.write(b"%x\r\n%b\r\n%b" % (len(body), body, end))
            elif end:
                self.transport.write(end)
        elif self.scope["method"] == "HEAD":
            self.expected_content_length = 0
        else:
            if self.chunked_encoding is not None:
                self.expected_content_length -= len(body)
                if self.expected_content_length < 0 or (self.expected_content_length and not more):
                    raise RuntimeError("An answer is not as long as it says.")
            self.transport.write(body)
        if not more:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()


def begin(
    door: HttpToolsProtocol, method: bytes, version: str, part: Callable[[], None]
) -> Exchange:
    """For a request whose head has been read."""
    raw_path, query = path_and_query(door.url)
    path = raw_path.decode("ascii")
    is_new = version == "1.1"
    leaving = Leaving()
    scope: Any = {
        "type": "http",
        "asgi": {"version": door.asgi_version, "spec_version": "2.3"},
        "http_version": version,
        "server": door.server,
        "client": door.client,
        "scheme": door.scheme,
        "method": method.decode("ascii"),
        "path": unquote(path) if "%" in path else path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": door.root_path,
        "headers": door.headers,
        "state": door.app_state.copy(),
        "extensions": {LEAVING: leaving},
    }
    exchange = Exchange(
        scope=scope,
        transport=door.transport,
        flow=door.flow,
        logger=door.logger,
        access_logger=door.access_logger,
        access_log=door.access_log,
        default_headers=door.server_state.default_headers,
        message_event=Bell(),
        expect_100_continue=door.expect_100_continue and is_new,
        keep_alive=is_new and door.parser.should_keep_alive(),
        on_response=door.on_response_complete,
    )
    exchange.leaving, exchange.part, exchange.server = leaving, part, door.server_state
    return exchange


def last_word(why: SwapyardError, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """An answer to what is no request, after which nothing more is said."""
    body = why.body()
    said = {**why.headers(), "content-length": str(len(body)), "connection": "close"}
    lines = [b"%b: %b\r\n" % header for header in headers]
    lines += [f"{name}: {value}\r\n".encode() for name, value in said.items()]
    return b"".join([STATUS_LINE[why.status], *lines, b"\r\n", body])


class _Sent:
    """To be awaited where there is nothing to wait for."""

    __slots__ = ()

    def __await__(self) -> Iterator[None]:
        return iter(())


_SENT: Final = cast("Awaitable[None]", _Sent())


class _Parting:
    """A transport for an answer that its client may read while it is still sending."""

    def __init__(self, transport: asyncio.Transport, part: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = part
