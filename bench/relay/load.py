"""The load generator: a process of its own that costs as little as it can, `python -m
bench.relay.load`. A Job comes as JSON on stdin, what was seen goes as JSON to stdout. An answer
that is not whole ends it with an error: a relay that loses something has no speed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httptools
import uvloop

from bench.relay.engine import take_files
from bench.relay.readers import Chunks, Reader, TimedChunks, Whole, Window
from bench.waits import share

PATIENCE = 60.0  # seconds for which the last answers may take after the window
SECOND = 10**9  # nanoseconds


class Broken(Exception):
    """An answer was not whole."""


@dataclass(frozen=True, slots=True)
class Job:
    url: str
    key: str
    connections: int
    seconds: float  # that are counted
    warm_up: float  # seconds before them
    spread: float = 0.0  # seconds before the warm-up, in which one after the other begins
    tokens: int = 0  # chunks of each stream; 0: whole answers
    rate: int = 0  # chunks per second of each stream; 0: as fast as they can

    def request(self) -> bytes:
        body: dict[str, Any] = {"model": "bench", "messages": [{"role": "user", "content": "Hi"}]}
        if self.tokens:
            body |= {"stream": True, "max_tokens": self.tokens}
        if self.rate:
            body["tokens_per_second"] = self.rate
        data, at = json.dumps(body).encode(), urlsplit(self.url)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {at.netloc}\r\n"
        head += f"authorization: Bearer {self.key}\r\n" if self.key else ""
        head += f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        return head.encode() + data

    def address(self) -> tuple[str, int]:
        at = urlsplit(self.url)
        assert at.hostname, f"not http://HOST:PORT: {self.url}"
        return at.hostname, at.port or 80

    def reader(self, window: Window) -> Reader:
        if not self.tokens:
            return Whole()
        return (TimedChunks if self.rate else Chunks)(self.tokens, window)


class Connection(asyncio.Protocol):
    """Asks, reads the whole answer, and says so."""

    def __init__(self, request: bytes, reader: Reader, load: Load) -> None:
        self._request = request
        self._reader = reader
        self._load = load
        self._parser = httptools.HttpResponseParser(self)
        self.asked_at = self.at = 0  # nanoseconds; `at`: when the last bytes came
        self._busy = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def ask(self) -> None:
        self._busy = True
        self.asked_at = time.monotonic_ns()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.at = time.monotonic_ns()
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._reader.feed(body, self.at)

    def on_message_complete(self) -> None:
        self._busy = False
        status, problem = self._parser.get_status_code(), self._reader.end()
        if status != 200 or problem:
            self._load.fail(f"status {status}: {problem}")
        else:
            self._load.answered(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._busy:
            self._load.fail(f"the connection was lost: {exc}")

    def close(self) -> None:
        self._transport.close()


class Load:
    """All connections of a job, each with one request at a time."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._window = Window(0, 0)  # until the connections are there
        self._took: list[int] = []  # nanoseconds, of the answers that ended in the window
        self._answers = 0  # in the window or not
        self._open = job.connections
        self._over = asyncio.get_running_loop().create_future()

    async def run(self) -> dict[str, Any]:
        loop, job, window = asyncio.get_running_loop(), self._job, self._window
        everyone = [await self._connected() for _ in range(job.connections)]
        window.begins = time.monotonic_ns() + round((job.spread + job.warm_up) * SECOND)
        window.ends = window.begins + round(job.seconds * SECOND)
        for n, connection in enumerate(everyone):
            loop.call_later(n * job.spread / job.connections, connection.ask)
        async with asyncio.timeout(job.spread + job.warm_up + job.seconds + PATIENCE):
            await self._over
        for connection in everyone:
            connection.close()
        return self._seen()

    async def _connected(self) -> Connection:
        connection = Connection(self._job.request(), self._job.reader(self._window), self)
        host, port = self._job.address()
        await asyncio.get_running_loop().create_connection(lambda: connection, host, port)
        return connection

    def answered(self, connection: Connection) -> None:
        self._answers += 1
        if self._window.holds(connection.at):
            self._took.append(connection.at - connection.asked_at)
        if connection.at < self._window.ends and not self._job.rate:
            connection.ask()
            return
        self._open -= 1
        if not self._open and not self._over.done():
            self._over.set_result(None)

    def fail(self, problem: str) -> None:
        if not self._over.done():
            self._over.set_exception(Broken(problem))

    def _seen(self) -> dict[str, Any]:
        job = self._job
        seen: dict[str, Any] = {"units": self._answers * (job.tokens or 1)}
        if not job.tokens:
            per_s = len(self._took) / job.seconds
            return seen | {"requests_per_s": round(per_s)} | of_times("took", self._took)
        seen["chunks_per_s"] = round(self._window.chunks / job.seconds)
        return seen | of_times("lag", self._window.lags) if job.rate else seen


def of_times(name: str, nanoseconds: Sequence[int]) -> dict[str, float]:
    ordered = sorted(nanoseconds)
    return {
        f"{name}_{part}_ms": round(share(ordered, at) / 10**6, 3)
        for part, at in (("p50", 0.5), ("p99", 0.99))
    }


async def main() -> None:
    take_files()
    job = Job(**json.load(sys.stdin))
    try:
        json.dump(await Load(job).run(), sys.stdout)
    except TimeoutError:
        sys.exit(f"not every answer ended within {PATIENCE:.0f} s")
    except (Broken, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    uvloop.run(main())
