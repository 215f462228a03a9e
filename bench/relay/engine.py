"""An engine program to measure what stands before it: it costs as little as it can, and each of
its bytes is known. What it shall do is in the request:

    max_tokens         chunks of a stream
    tokens_per_second  of a stream; without it, as fast as they are read

Each chunk is an event and an HTTP chunk of its own, and carries the time at which it was sent: one
clock for the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import time
from functools import lru_cache
from typing import NamedTuple

import httptools
import uvloop

NEEDLE = b'"content":"at '  # before the time in each chunk, and nowhere else
DIGITS = 20  # of the time, in nanoseconds
DONE = b"data: [DONE]\n\n"
AT_A_TIME = 256  # chunks in one write of a fast stream: 50 KB, then it is another's turn


class Asked(NamedTuple):
    stream: bool
    tokens: int
    pause: float  # seconds between two chunks


@lru_cache(maxsize=64)  # a load generator says the same again and again
def read(body: bytes) -> Asked:
    said = json.loads(body)
    rate = said.get("tokens_per_second", 0)
    return Asked(said.get("stream", False), said.get("max_tokens", 16), 1 / rate if rate else 0.0)


def whole() -> bytes:
    message = {"role": "assistant", "content": "As short as an answer can be."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 8, "completion_tokens": 8, "total_tokens": 16}
    about = {"id": "chatcmpl-bench", "object": "chat.completion", "created": 1, "model": "bench"}
    return json.dumps({**about, "choices": [choice], "usage": usage}).encode()


def event(stamp: bytes) -> bytes:
    return (
        b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1,'
        b'"model":"bench","choices":[{"index":0,"delta":{' + NEEDLE + stamp + b'"},'
        b'"finish_reason":null}]}\n\n'
    )


def http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def response(status: bytes, kind: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n"
    return head % (status, kind, len(body)) + body


ANSWER = whole()
JSON = b"application/json"
MODELS = b'{"object":"list","data":[{"id":"bench","object":"model","owned_by":"bench"}]}'
ANSWERS = {
    b"/health": response(b"200 OK", b"text/plain", b"ok"),
    b"/v1/models": response(b"200 OK", JSON, MODELS),
}
WHOLE = response(b"200 OK", JSON, ANSWER)
UNKNOWN = response(b"404 Not Found", b"text/plain", b"no such path")
STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
END = http_chunk(DONE) + b"0\r\n\r\n"
FAST = http_chunk(event(b"0" * DIGITS))
BEFORE, AFTER = http_chunk(event(b"@" * DIGITS)).split(b"@" * DIGITS)


class Connection(asyncio.Protocol):
    """One request at a time, on a connection that is kept."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._url = self._body = b""
        self._asked = Asked(False, 0, 0.0)
        self._left = 0  # chunks of the stream
        self._next = 0.0  # when the next one is due
        self._full = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._left = 0

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._url = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if not self._url.startswith(b"/v1/chat/completions"):
            self._transport.write(ANSWERS.get(self._url, UNKNOWN))
            return
        self._asked = read(self._body)
        if not self._asked.stream:
            self._transport.write(WHOLE)
            return
        self._transport.write(STREAM)
        self._left, self._next = self._asked.tokens, self._loop.time()
        if self._asked.pause:
            self._tick()
        else:
            self._pump()

    # A stream.

    def _tick(self) -> None:
        if not self._left:
            return
        self._transport.write(b"%s%020d%s" % (BEFORE, time.monotonic_ns(), AFTER))
        self._left -= 1
        self._next += self._asked.pause
        if self._left:
            self._loop.call_at(self._next, self._tick)
        else:
            self._transport.write(END)

    def _pump(self) -> None:
        if self._transport.is_closing():
            return
        now = min(self._left, AT_A_TIME)
        self._left -= now
        self._transport.write(FAST * now if self._left else FAST * now + END)
        if self._left and not self._full:
            self._loop.call_soon(self._pump)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._left and not self._asked.pause:
            self._pump()


def take_files() -> None:
    """As many open files as this process may have: 1,000 streams need more than the usual 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def serve(port: int) -> None:
    take_files()
    server = await asyncio.get_running_loop().create_server(
        Connection, "127.0.0.1", port, backlog=4096
    )
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))
