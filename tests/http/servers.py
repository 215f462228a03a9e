"""A server for the client of the data plane: it says word for word what a test lets it say."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from shared.wire import Deadlines, Origin, Pool, Response


@dataclass
class Exchange:
    """One request that came, and the connection on which it came."""

    connection: int
    head: bytes
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def gone(self) -> None:
        """Return when the client is gone."""
        while await self.reader.read(2**16):
            pass

    def reset(self) -> None:
        """As the kernel does for a process that died with bytes unread."""
        at_once = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, at_once
        )
        self.writer.transport.abort()


LOOPS = [("asyncio", {"use_uvloop": True}), ("asyncio", {"use_uvloop": False})]  # ours, and any
Says = Callable[[Exchange], Awaitable[None]]


@dataclass
class Server:
    says: Says
    origin: Origin = field(default_factory=lambda: Origin("127.0.0.1", 0))
    connections: int = 0
    open: int = 0
    exchanges: list[Exchange] = field(default_factory=list)
    stop_listening: Callable[[], None] = lambda: None

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        number = self.connections
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while not writer.is_closing():
                    exchange = await heard(number, reader, writer)
                    self.exchanges.append(exchange)
                    await self.says(exchange)
        finally:
            self.open -= 1
            writer.close()


async def heard(
    number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Exchange:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-le"))
    body = await reader.readexactly(length) if b"x-unread" not in head else b""
    return Exchange(number, head, body, reader, writer)


@asynccontextmanager
async def server(says: Says, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    it, tasks = Server(says), set[asyncio.Task[None]]()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await it.connected(reader, writer)
        tasks.discard(task)

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    it.origin = Origin("127.0.0.1", listener.sockets[0].getsockname()[1])
    it.stop_listening = listener.close
    try:
        yield it
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()


@asynccontextmanager
async def pooled(keepalive: float = 30) -> AsyncIterator[Pool]:
    pool = Pool(keepalive)
    try:
        yield pool
    finally:
        pool.close()
        await asyncio.sleep(0)  # the transports close in the loop's next turn


async def ask(
    pool: Pool,
    it: Server,
    body: bytes = b"{}",
    deadlines: Deadlines | None = None,
    method: bytes = b"POST",
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> Response:
    return await pool.send(
        it.origin, method, b"/v1/x", list(headers), body, deadlines or Deadlines()
    )


async def whole(response: Response) -> bytes:
    """Its body to the end; the connection is given back."""
    with response:
        pieces = []
        while piece := await response.read():
            pieces.append(piece)
        return b"".join(pieces)
