"""Clients that wait: a process of its own, `python -m bench.crowd.clients URL KEY MODEL`.

It is told what to do line by line on stdin, and answers each line with one of JSON:

    N    so many more clients come; answered when each of them has heard something
    all  answered when each client has its whole answer
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import httptools
import uvloop

from bench.relay.engine import DONE, take_files
from bench.waits import share

BODY = 2 * 2**10  # bytes of a request
AT_A_TIME = 50  # that connect: more would be lost in the queue of a listening socket
KEPT = len(DONE)


def request(host: str, key: str, model: str) -> bytes:
    asked = {"model": model, "stream": True, "max_tokens": 3, "messages": []}
    asked["messages"] = [{"role": "user", "content": "x" * (BODY - len(json.dumps(asked)) - 36)}]
    body = json.dumps(asked).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\n"
    head += f"authorization: Bearer {key}\r\n" if key else ""
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Client(asyncio.Protocol):
    """Asks once, and reads to the end."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._parser = httptools.HttpResponseParser(self)
        self._heard = False
        self._over = False
        self._tail = b""
        self._bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        transport.write(self._crowd.request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._over:
            self._crowd.fail(f"the connection was lost: {exc}")

    # What the parser calls.

    def on_body(self, body: bytes) -> None:
        self._crowd.frames += 1
        self._tail = (self._tail + body)[-KEPT:]
        self._bytes += len(body)
        if not self._heard:
            self._heard = True
            self._crowd.has_heard()

    def on_message_complete(self) -> None:
        self._over = True
        if self._parser.get_status_code() != 200 or self._tail != DONE:
            self._crowd.fail(f"{self._parser.get_status_code()}, which ends with {self._tail!r}")
        self._transport.close()
        self._crowd.is_answered(self._bytes)


class Crowd:
    def __init__(self, url: str, key: str, model: str) -> None:
        at = urlsplit(url)
        self._host, self._port = at.hostname or "", at.port or 80
        self.request = request(at.netloc, key, model)
        self.frames = 0
        self._came = self._heard = 0
        self._answered: list[float] = []  # when
        self._sizes: list[int] = []
        self._problem: str | None = None
        self._changed = asyncio.Event()

    async def come(self, number: int) -> dict[str, Any]:
        loop, began = asyncio.get_running_loop(), time.monotonic()
        while number:
            now = min(number, AT_A_TIME)
            here = (
                loop.create_connection(self._client, self._host, self._port) for _ in range(now)
            )
            await asyncio.gather(*here)
            self._came, number = self._came + now, number - now
            await self._until(lambda: self._heard == self._came)
        return {"clients": self._came, "took_s": round(time.monotonic() - began, 3)}

    async def all_answered(self) -> dict[str, Any]:
        await self._until(lambda: len(self._answered) == self._came)
        first, middle = self._answered[0], share(self._answered, 0.5)
        return {
            "answered": len(self._answered),
            "bytes_each": round(sum(self._sizes) / len(self._sizes)),
            "frames": self._frames_each(),
            "from_first_to_half_s": round(middle - first, 3),
            "from_first_to_last_s": round(self._answered[-1] - first, 3),
        }

    def _frames_each(self) -> float:
        return round(self.frames / self._came, 1)

    def _client(self) -> Client:
        return Client(self)

    async def _until(self, is_so: Any) -> None:
        while not is_so():
            if self._problem:
                raise RuntimeError(self._problem)
            self._changed.clear()
            await self._changed.wait()

    # What clients tell.

    def has_heard(self) -> None:
        self._heard += 1
        if self._heard == self._came or self._heard % AT_A_TIME == 0:
            self._changed.set()

    def is_answered(self, size: int) -> None:
        self._answered.append(time.monotonic())
        self._sizes.append(size)
        if len(self._answered) == self._came:
            self._changed.set()

    def fail(self, problem: str) -> None:
        self._problem = problem
        self._changed.set()


async def main(url: str, key: str, model: str) -> None:
    take_files()
    crowd, loop = Crowd(url, key, model), asyncio.get_running_loop()
    while line := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        said = await (crowd.all_answered() if line == "all" else crowd.come(int(line)))
        print(json.dumps({**said, "frames_so_far": crowd.frames}), flush=True)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:4]))
