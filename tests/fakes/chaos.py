"""A TCP proxy that breaks what goes through it: between a client and the router, or the router and
a box.

Rule: it knows nothing of HTTP. A verb holds for every connection, also for those that are there
already, until it is taken back; it runs on the test's own event loop.
"""

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

READ = 64 * 2**10  # bytes at a time, where nothing else is asked for


class Chaos:
    """`pieces`: bytes of one write, 0 for as they come; `latency`: seconds before each write, and
    up to `jitter` more, by `chance`; `bandwidth`: bytes per second in each direction of a
    connection, 0 for no limit; `refuses`: whoever connects is reset; `heard` is given what goes to
    the target, as it goes."""

    def __init__(self, target: str, chance: random.Random | None = None) -> None:
        where = urlsplit(target)
        self._chance = chance or random.Random()
        self._target = (where.hostname, where.port)
        self._port = 0
        self._pipes: dict[asyncio.Task[None], tuple[asyncio.StreamWriter, ...]] = {}
        self.pieces = 0
        self.latency = 0.0
        self.jitter = 0.0
        self.refuses = False
        self._inward, self._outward = _open(), _open()
        self.bandwidth = 0
        self.heard: Callable[[bytes], None] = lambda data: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def connections(self) -> int:
        return len(self._pipes)

    def reset(self) -> None:
        """Every connection is reset, at both ends."""
        for writers in self._pipes.values():
            for writer in writers:
                reset(writer)

    def half_close(self) -> None:
        """Those who connected say that they have said all, and still listen."""
        for _, *servers in self._pipes.values():
            for server in servers:
                if server.can_write_eof() and not server.is_closing():
                    server.write_eof()

    def part(self, *, inward: bool = True, outward: bool = True) -> None:
        """Nothing goes through in those directions, no end of a connection either, and nobody is
        told. Who connects meanwhile waits. What was said until the healing arrives then, as TCP
        sends it again; a partition that outlives its connections is one with a `reset` before it
        is healed."""
        for way, parted in ((self._inward, inward), (self._outward, outward)):
            if parted:
                way.clear()

    def heal(self) -> None:
        self.refuses = False
        self._inward.set()
        self._outward.set()

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """Nobody listens for as long as the block lasts, and what was connected is closed."""
        await self.__aexit__(None, None, None)
        try:
            yield
        finally:
            await self.__aenter__()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        for task, writers in self._pipes.items():
            task.cancel()  # it may wait for a healing
            for writer in writers:
                writer.transport.abort()
        await asyncio.gather(*self._pipes)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError):  # by `__aexit__`; asyncio would report it
            await self._join(reader, writer)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            reset(writer)
            return
        task = asyncio.current_task()
        assert task is not None
        self._pipes[task] = (writer,)
        try:
            await self._inward.wait()
            there, server = await asyncio.open_connection(*self._target)
        except (OSError, asyncio.CancelledError):
            del self._pipes[task]
            reset(writer)
            return
        self._pipes[task] = (writer, server)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, server, inward=True))
                both.create_task(self._pump(there, writer, inward=False))
        except* ConnectionError:
            reset(writer)
            reset(server)
        finally:
            del self._pipes[task]
            for end in (writer, server):
                end.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, inward: bool
    ) -> None:
        """Until one end has said all: then the other is told so."""
        way = self._inward if inward else self._outward
        while data := await reader.read(READ):
            if inward:
                self.heard(data)
            for piece in cut(data, self.pieces or len(data)):
                await asyncio.sleep(self._pause(len(piece)))
                await way.wait()
                writer.write(piece)
                await writer.drain()
        await way.wait()
        with suppress(OSError):  # it may be gone
            writer.write_eof()

    def _pause(self, size: int) -> float:
        late = self.latency + self._chance.uniform(0, self.jitter)
        return late + (size / self.bandwidth if self.bandwidth else 0.0)


def _open() -> asyncio.Event:
    way = asyncio.Event()
    way.set()
    return way


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    linger = struct.pack("ii", 1, 0)  # on, for 0 s: closing it is a reset
    with suppress(OSError):  # it is closed already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
