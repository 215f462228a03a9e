"""The data plane's HTTP/1.1 client: pooled connections, streamed answers, deadlines.

A request is built here from its parts, never copied. A request whose kept-alive connection turns
out to be closed at once is sent again, on a new one: servers may close an idle connection at any
time, and what is asked here (an answer of a model) changes nothing.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from shared.connection import READ, Connection
from shared.headers import Headers
from shared.response import BrokenOff, ConnectFailed, Response, Silent, WireError

__all__ = [
    "BrokenOff",
    "ConnectFailed",
    "Deadlines",
    "Origin",
    "Pool",
    "Response",
    "Silent",
    "WireError",
]

MAX_IDLE = 256  # kept connections to one server
AT_ONCE = 1.0  # seconds in which an idle connection's end comes back; later it is the request's own


@dataclass(frozen=True, slots=True)
class Origin:
    """One server. `tls`: with what its certificate is checked; None: plain HTTP."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None

    @classmethod
    def of(cls, url: str, tls: ssl.SSLContext | None = None) -> Origin:
        """Of an http or https URL; the latter is checked with `tls`, or the system's CAs."""
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        context = (tls or ssl.create_default_context()) if secure else None
        return cls(parts.hostname or "", parts.port or (443 if secure else 80), context)

    @property
    def authority(self) -> bytes:
        """For the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}".encode()


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds, None without a limit: to connect; from the request to the answer's head; between
    two pieces of its body."""

    connect: float = 5.0
    first_byte: float | None = None
    idle: float | None = None


class Pool:
    """`keepalive`: seconds for which an idle connection is kept, shorter than the servers' own.
    `still_there`: asked of each new connection before a byte is sent on it. Who is there then was
    there when it was made, so it is theirs, and nobody's who came in their place."""

    def __init__(
        self, keepalive: float, still_there: Callable[[Origin], bool] = lambda origin: True
    ) -> None:
        self._keepalive = keepalive
        self._still_there = still_there
        self._buffer = memoryview(bytearray(READ))  # of all connections: each read is used at once
        self._open: set[Connection] = set()
        self._idle: dict[Origin, dict[Connection, None]] = {}  # of each, the newest last
        self._sweep: asyncio.TimerHandle | None = None

    async def send(
        self,
        origin: Origin,
        method: bytes,
        target: bytes,
        headers: Headers,
        body: bytes,
        deadlines: Deadlines,
    ) -> Response:
        """The answer, once its head is there; it must be closed. Raises ConnectFailed, BrokenOff
        or Silent."""
        head = request_head(origin, method, target, headers, len(body))
        asked = (head, body, deadlines, method == b"HEAD")
        connection = self._kept(origin)
        if connection is None:
            return await _exchange(await self._connect(origin, deadlines.connect), *asked)
        sent_at = self._now()
        try:
            return await _exchange(connection, *asked)
        except BrokenOff as error:
            if connection.heard or self._now() > sent_at + AT_ONCE:
                raise
            broken = error
        try:
            connection = await self._connect(origin, deadlines.connect)
        except ConnectFailed:  # it has died, perhaps of this very request
            raise broken from None
        return await _exchange(connection, *asked)

    def close(self) -> None:
        """End every connection."""
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self._open):
            connection.abort()

    # Connections.

    def _kept(self, origin: Origin) -> Connection | None:
        """The one that was used last, so that the others grow old."""
        kept, oldest = self._idle.get(origin), self._now() - self._keepalive
        while kept:
            connection, _ = kept.popitem()
            if connection.idle_since > oldest:
                return connection
            connection.abort()
        return None

    async def _connect(self, origin: Origin, limit: float) -> Connection:
        def made() -> Connection:
            return Connection(self._buffer, partial(self._released, origin))

        try:
            async with asyncio.timeout(limit):
                _, connection = await asyncio.get_running_loop().create_connection(
                    made, origin.host, origin.port, ssl=origin.tls
                )
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            said = str(error) or f"no connection within {limit:g} s"
            raise ConnectFailed(said) from None
        if not self._still_there(origin):
            connection.abort()
            raise ConnectFailed("its server has ended")
        self._open.add(connection)
        return connection

    def _released(self, origin: Origin, connection: Connection, good: bool) -> None:
        kept = self._idle.setdefault(origin, {})
        if good and self._keepalive and len(kept) < MAX_IDLE:
            kept[connection] = None
            self._sweep_later()
            return
        connection.abort()
        kept.pop(connection, None)
        self._open.discard(connection)
        if not kept:
            del self._idle[origin]

    def _sweep_later(self) -> None:
        if self._sweep is None:
            ages = [connection.idle_since for kept in self._idle.values() for connection in kept]
            when = min(ages) + self._keepalive
            self._sweep = asyncio.get_running_loop().call_at(when, self._close_the_old)

    def _close_the_old(self) -> None:
        self._sweep = None
        oldest = self._now() - self._keepalive
        idle = [connection for kept in self._idle.values() for connection in kept]
        for connection in idle:
            if connection.idle_since <= oldest:
                connection.abort()  # which releases it
        if idle:
            self._sweep_later()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def request_head(
    origin: Origin, method: bytes, target: bytes, headers: Headers, length: int
) -> bytes:
    """Raises ValueError for what would end a line before its end."""
    lines = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (method, target, origin.authority)]
    lines += [b"%b: %b\r\n" % header for header in headers]
    lines.append(b"content-length: %d\r\n\r\n" % length)
    head = b"".join(lines)
    ends = len(headers) + 4
    if head.count(b"\n") != ends or head.count(b"\r") != ends or b"\0" in head or b" " in target:
        raise ValueError("a header or the target holds a line's end, a NUL or a space")
    return head


async def _exchange(
    connection: Connection, head: bytes, body: bytes, deadlines: Deadlines, bodiless: bool
) -> Response:
    """Until the answer's head is there."""
    response = connection.send(head, body, deadlines.first_byte, deadlines.idle, bodiless)
    try:
        await response.head()
    except BaseException:
        response.close()
        raise
    return response
