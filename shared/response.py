"""One answer of the data plane, from a connection to whoever asked, and why there may be none.

What has arrived is kept until it is read, and what has arrived together is read together.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from shared.headers import Headers

HIGH_WATER = 32 * 2**10  # bytes that nobody has taken yet: above, nothing more is read


class WireError(Exception):
    """There is no answer, or none to its end."""


class ConnectFailed(WireError):
    """The server has not seen the request."""


class BrokenOff(WireError):
    """The connection ended, or spoke no HTTP, before the answer was whole."""


class Silent(WireError):
    """Nothing came for `limit` seconds; `to_all`: nor did it on any other connection to that
    server."""

    def __init__(self, limit: float, *, to_all: bool) -> None:
        super().__init__(f"nothing came for {limit:g} s")
        self.limit = limit
        self.to_all = to_all


class Source(Protocol):
    """Where an answer comes from."""

    def taken(self) -> None:
        """Somebody has read all that came."""

    def leave(self) -> None:
        """Nobody will read any more."""


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

    def __init__(self, connection: Source) -> None:
        self.status = 0  # until its head is there
        self.headers: Headers = []
        self.framed = False  # whether it says itself where it ends, or ends with its connection
        self._connection: Source | None = connection
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
