"""The data plane's HTTP/1.1 client: pooled connections, streamed answers, deadlines.

A request is built here from its parts, never copied. A request whose kept-alive connection turns
out to be closed at once is sent again, on a new one: servers may close an idle connection at any
time, and what is asked here (an answer of a model) changes nothing.
"""

from __future__ import annotations

import asyncio
import math
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
        self._servers: dict[Origin, _Server] = {}  # while there are connections to them
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

    def give_up(self, origin: Origin, limit: float) -> None:
        """A server that has said nothing for `limit` seconds, to anybody: whatever it was asked
        ends with Silent."""
        if (server := self._servers.get(origin)) is not None:
            for connection in list(server.open):
                connection.give_up(limit)

    def close(self) -> None:
        """End every connection."""
        if self._sweep is not None:
            self._sweep.cancel()
        for server in list(self._servers.values()):
            for connection in list(server.open):
                connection.abort()

    # Connections.

    def _kept(self, origin: Origin) -> Connection | None:
        """The one that was used last, so that the others grow old."""
        server, oldest = self._servers.get(origin), self._now() - self._keepalive
        while server is not None and server.idle:
            connection, _ = server.idle.popitem()
            if connection.idle_since > oldest:
                return connection
            connection.abort()
        return None

    async def _connect(self, origin: Origin, limit: float) -> Connection:
        server = self._server(origin)

        def made() -> Connection:
            return Connection(self._buffer, server)

        server.connecting += 1
        try:
            async with asyncio.timeout(limit):
                _, connection = await asyncio.get_running_loop().create_connection(
                    made, origin.host, origin.port, ssl=origin.tls
                )
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            said = str(error) or f"no connection within {limit:g} s"
            raise ConnectFailed(said) from None
        else:
            if self._still_there(origin):
                server.open.add(connection)
                return connection
            connection.abort()
            raise ConnectFailed("its server has ended")
        finally:
            server.connecting -= 1
            server.forget_if_gone()

    def _server(self, origin: Origin) -> _Server:
        server = self._servers.get(origin)
        if server is None:
            keeps = self._sweep_later if self._keepalive else None
            forget = partial(self._servers.pop, origin, None)
            server = self._servers[origin] = _Server(keeps, forget)
        return server

    def _kept_by_all(self) -> list[Connection]:
        return [connection for server in self._servers.values() for connection in server.idle]

    def _sweep_later(self) -> None:
        if self._sweep is None:
            ages = [connection.idle_since for connection in self._kept_by_all()]
            when = min(ages) + self._keepalive
            self._sweep = asyncio.get_running_loop().call_at(when, self._close_the_old)

    def _close_the_old(self) -> None:
        self._sweep = None
        oldest = self._now() - self._keepalive
        idle = self._kept_by_all()
        for connection in idle:
            if connection.idle_since <= oldest:
                connection.abort()  # which releases it
        if idle:
            self._sweep_later()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


class _Server:
    """The connections to one server. `keeps` is called when one is kept for another exchange; None:
    none is. `forget`: there is none any more."""

    __slots__ = ("_forget", "_heard_at", "_keeps", "connecting", "idle", "open")

    def __init__(self, keeps: Callable[[], None] | None, forget: Callable[[], object]) -> None:
        self._keeps = keeps
        self._forget = forget
        self.open: set[Connection] = set()
        self.idle: dict[Connection, None] = {}  # of those, the newest last
        self.connecting = 0
        self._heard_at = -math.inf  # in an exchange that is over

    def released(self, connection: Connection, good: bool) -> None:
        """Told again of one that is gone, it is none of ours any more."""
        if connection not in self.open:
            return
        self._heard_at = max(self._heard_at, connection.last_heard)
        if good and self._keeps is not None and len(self.idle) < MAX_IDLE:
            self.idle[connection] = None
            self._keeps()
            return
        connection.abort()
        self.idle.pop(connection, None)
        self.open.discard(connection)
        self.forget_if_gone()

    def heard_since(self, moment: float) -> bool:
        return self._heard_at > moment or any(c.last_heard > moment for c in self.open)

    def forget_if_gone(self) -> None:
        if not self.open and not self.connecting:
            self._forget()


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
