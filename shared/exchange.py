"""One request and its answer: uvicorn's cycle, slim while it waits, and told of a leaving client.

An `asyncio.Event` takes 1 KiB, and uvicorn keeps two for each connection. Here they are made when
somebody waits, and dropped with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Literal

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

LEAVING = "swapyard.leaving"  # in the scope's extensions: the Leaving of this request


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
    leaving: Leaving
    part: Callable[[], None]  # instead of closing at once

    def left(self) -> None:
        """The client is not there any more, or its request will never be whole."""
        if not self.response_complete:
            self.disconnected = True
            self.message_event.set()
            self.leaving.happens()

    def send(self, message: ASGISendEvent) -> Coroutine[Any, Any, None]:
        if self.more_body and not self.response_started:
            # What is still to come of the body will not be read: no further request can follow.
            self.keep_alive = False
            self.transport = _Parting(self.transport, self.part)  # type: ignore[assignment]
        return super().send(message)


class OldExchange(Exchange):
    """HTTP/1.0 knows no chunks: what has no length ends with its connection."""

    def send(self, message: ASGISendEvent) -> Coroutine[Any, Any, None]:
        if message["type"] == "http.response.start":
            headers = message.get("headers", [])
            self._unframed = all(name.lower() != b"content-length" for name, _ in headers)
            if self._unframed:
                self.chunked_encoding = False
        elif message["type"] == "http.response.body" and self._unframed:
            self.expected_content_length = len(message.get("body", b""))
        return super().send(message)


class _Parting:
    """A transport for an answer that its client may read while it is still sending."""

    def __init__(self, transport: asyncio.Transport, part: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = part
