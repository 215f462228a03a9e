"""The data plane that both programs share: a request's body, its end, and one answer passed on.

One chunk in, one chunk out: nothing is parsed, nothing is kept, and a client that does not read
stops the reading upstream. A client that leaves cancels what is done for it, in every state.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from shared.errors import NotFound, SwapyardError, TooLarge

CONNECT_TIMEOUT = 5.0  # seconds

# What of a request goes on to an engine. Everything else (keys, cookies, hop-by-hop) stays here.
REQUEST_HEADERS = frozenset(
    {b"content-type", b"accept", b"user-agent", b"x-request-id", b"traceparent", b"tracestate"}
)
# What of an answer goes back.
RESPONSE_HEADERS = frozenset(
    {
        b"content-type",
        b"content-length",
        b"content-encoding",
        b"content-disposition",
        b"cache-control",
        b"retry-after",
        b"x-should-retry",
    }
)

Headers = list[tuple[bytes, bytes]]


class ClientGone(Exception):
    """The client has left: there is nobody to answer."""


def client(keepalive: float) -> httpx.AsyncClient:
    """For streams: as many connections as there are requests, and no limit on their length.

    `keepalive`: seconds for which an idle connection is kept, shorter than the server's own, so
    that a request is never sent on a connection that the server is just closing; 0: none is.
    """
    return httpx.AsyncClient(
        timeout=httpx.Timeout(CONNECT_TIMEOUT, read=None, write=None, pool=None),
        limits=httpx.Limits(
            max_connections=None,
            max_keepalive_connections=None if keepalive else 0,
            keepalive_expiry=keepalive,
        ),
        trust_env=False,  # a proxy from the environment is not for the box next door
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # none are kept, so none sent
    )


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole body, of `limit` bytes at most."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > limit:
            raise TooLarge(limit)
        if not message.get("more_body", False):
            return bytes(body)


async def first_bytes(response: httpx.Response, limit: int) -> bytes:
    """The body, of little more than `limit` bytes at most: what is longer is broken off."""
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > limit:
            break
    return bytes(body)


@asynccontextmanager
async def while_client_stays(receive: Receive) -> AsyncIterator[None]:
    """Cancel the block, and raise ClientGone, when the client leaves. Enter it only when the body
    has been read.

    uvicorn's `send` after a hang-up is silent: `receive` is the only way to learn of it.
    """
    task = asyncio.current_task()
    assert task is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.ensure_future(watch())
    try:
        yield
    except asyncio.CancelledError:
        if gone and task.uncancel() == 0:
            raise ClientGone from None
        raise
    finally:
        watcher.cancel()


def only(headers: Iterable[tuple[bytes, bytes]], allowed: frozenset[bytes]) -> Headers:
    return [(name.lower(), value) for name, value in headers if name.lower() in allowed]


class Answer:
    """One answer on its way to a client: its head, its chunks, and its end or its failure.

    `shows_logs`: whether an error may carry an engine's last lines.
    """

    def __init__(self, send: Send, *, shows_logs: bool = False) -> None:
        self._send = send
        self._shows_logs = shows_logs
        self.begun = False
        self._is_events = False
        self._failure: Callable[[SwapyardError], bytes] = SwapyardError.event
        self._last = b"\n\n"  # bytes that were sent

    async def begin(
        self,
        status: int,
        headers: Headers,
        failure: Callable[[SwapyardError], bytes] = SwapyardError.event,
    ) -> None:
        """`failure`: the event that ends an event stream which cannot be whole."""
        self.begun = True
        self._failure = failure
        self._is_events = is_events(headers)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def chunk(self, chunk: bytes) -> None:
        self._last = (self._last + chunk[-4:])[-4:]
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end(self, last: bytes = b"") -> None:
        await self._send({"type": "http.response.body", "body": last, "more_body": False})

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        length = (b"content-length", str(len(body)).encode())
        await self.begin(status, [*headers, length])
        await self.end(body)

    async def fail(self, error: SwapyardError) -> None:
        """As JSON while there are no headers, in an event stream as its last event. Anything else
        is broken off: half an answer must not look like a whole one."""
        error = error if self._shows_logs else error.without_logs()
        if not self.begun:
            headers = [(k.encode(), v.encode()) for k, v in error.headers().items()]
            await self.whole(error.status, headers, error.body())
        elif self._is_events:
            await self.end(self._end_of_half_an_event() + self._failure(error))

    def _end_of_half_an_event(self) -> bytes:
        """So that what was cut off does not swallow the error."""
        return b"" if self._last.endswith((b"\n\n", b"\r\n\r\n")) else b"\n\n"


def is_events(headers: Headers) -> bool:
    return any(k == b"content-type" and v.startswith(b"text/event-stream") for k, v in headers)


def header(scope: Scope, name: bytes) -> str | None:
    found = next((value for key, value in scope["headers"] if key == name), None)
    return None if found is None else found.decode("latin-1")


async def in_openais_shape(request: Request, error: Exception) -> Response:
    """Starlette's handler for our own errors and for its own."""
    if isinstance(error, HTTPException):
        error = NotFound(request.url.path, error.status_code)
    assert isinstance(error, SwapyardError)
    return Response(error.body(), error.status, error.headers())


EXCEPTION_HANDLERS = {SwapyardError: in_openais_shape, HTTPException: in_openais_shape}
