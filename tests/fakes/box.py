"""A box for tests of the router: a server that says what a test tells it to, lies included.

Rule: everything is written byte by byte, so that an answer can be cut off at any of them. It runs
on the test's own event loop; `exchanges` and `demands` are what the router has sent so far.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

from shared.sse import Event, encode
from shared.status import Catalogue, ModelFacts, ModelStatus, Status

HEARTBEAT = 2.0  # seconds, as a sidecar's
Json = dict[str, Any]


@dataclass
class Exchange:
    """One request of the router, and the answer that a test gives it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    writer: asyncio.StreamWriter
    left: asyncio.Event = field(default_factory=asyncio.Event)  # the router has hung up
    left_at: float = 0.0  # time.monotonic()

    async def begin(self, status: int = 200, **headers: str) -> None:
        """Without a content_length the body comes in chunks."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        names["connection"] = "close"
        if "content-length" not in names:
            names["transfer-encoding"] = "chunked"
        lines = [f"{name}: {value}" for name, value in names.items()]
        await self.write("\r\n".join([f"HTTP/1.1 {status} Any", *lines, "", ""]).encode())

    async def events(self) -> None:
        await self.begin(content_type="text/event-stream")

    async def chunk(self, data: bytes) -> None:
        await self.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        await self.write(b"0\r\n\r\n")

    async def whole(self, status: int, body: bytes, **headers: str) -> None:
        await self.begin(status, content_length=str(len(body)), **headers)
        await self.write(body)

    async def json(self, status: int, value: object, **headers: str) -> None:
        body = json.dumps(value).encode()
        await self.whole(status, body, content_type="application/json", **headers)

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def cut(self) -> None:
        """As a process does that is killed: what was written arrives, and then the end."""
        self.writer.close()


Engine = Callable[[Exchange], Awaitable[None]]


class FakeBox:
    """`engine` answers what is sent to any engine; `mute` stops events and heartbeats, and closes
    nothing: with an engine that says nothing either, the box is silent."""

    def __init__(self, name: str, facts: list[ModelFacts], engine: Engine) -> None:
        self.engine = engine
        self.exchanges: list[Exchange] = []
        self.demands: list[tuple[float, Json]] = []
        self.authorizations: set[str | None] = set()
        self.mute = False
        self._facts = tuple(facts)
        models = tuple(ModelStatus(known.id, slots=known.slots) for known in facts)
        self.status = Status(1, name, "boot-1", 1, time.time(), models=models)
        self._changed = asyncio.Event()
        self._watchers: list[Exchange] = []
        self._port = 0
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def say(self, model: str = "", **changes: Any) -> None:
        """A new Status, in which this is so of that model."""
        status = self.status
        models = tuple(
            replace(known, **changes) if known.id == model else known for known in status.models
        )
        self.status = replace(status, seq=status.seq + 1, at=time.time(), models=models)
        self._changed.set()
        self._changed = asyncio.Event()

    def end_events(self) -> None:
        """Ends every stream of events, and nothing else."""
        for watcher in self._watchers:
            watcher.cut()
        self._watchers.clear()

    def waiting(self, model: str) -> int:
        """How many requests the router's newest message says wait."""
        wanted = self.demands[-1][1]["models"].get(model, {}) if self.demands else {}
        return sum(wanted.get("waiting", {}).values())

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
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Nobody is there for as long as the block lasts; then it is back on the same port."""
        await self.__aexit__(None, None, None)
        try:
            yield
        finally:
            await self.__aenter__()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while not writer.is_closing():
                    await self._serve(await read_request(reader, writer), reader)
        finally:
            self._connections.discard(task)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _serve(self, asked: Exchange, reader: asyncio.StreamReader) -> None:
        self.authorizations.add(asked.headers.get("authorization"))
        if asked.target == "/models/events":
            await self._events(asked)
        elif asked.target == "/models":
            catalogue = Catalogue(self.status.box, self.status.boot, self._facts)
            await asked.whole(200, catalogue.to_json())
        elif asked.target.startswith("/demand/"):
            self.demands.append((time.monotonic(), json.loads(asked.body)))
            await asked.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        else:
            self.exchanges.append(asked)
            await self._answer(asked, reader)
            asked.writer.close()

    async def _answer(self, asked: Exchange, reader: asyncio.StreamReader) -> None:
        """By the test's script, watching meanwhile whether the router hangs up."""
        hung_up = asyncio.ensure_future(self._hung_up(asked, reader))
        try:
            await self.engine(asked)
        finally:
            hung_up.cancel()
            await asyncio.wait({hung_up})

    @staticmethod
    async def _hung_up(asked: Exchange, reader: asyncio.StreamReader) -> None:
        with suppress(ConnectionError):
            await reader.read(1)  # after `Connection: close` nothing but the end can come
        asked.left_at = time.monotonic()
        asked.left.set()

    async def _events(self, asked: Exchange) -> None:
        await asked.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        self._watchers.append(asked)
        told = 0
        while not asked.writer.is_closing():
            status, changed = self.status, self._changed
            if not self.mute:
                event = Event(status.to_json().decode(), "status", f"{status.boot}:{status.seq}")
                await asked.write(encode(event) if status.seq > told else b": ping\n\n")
                told = status.seq
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT):
                    await changed.wait()


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Exchange:
    start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
    method, target, _ = start.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (s.partition(":") for s in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Exchange(method, target, headers, body, writer)
