"""The client's side of the data plane: a request's body, its client's leaving, and one answer.

One chunk in, one chunk out: nothing is parsed, nothing is kept, and a client that does not read
stops the reading upstream. A client that leaves cancels what is done for it, in every state.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from starlette.types import Receive, Scope, Send

from shared.errors import SwapyardError, TooLarge
from shared.exchange import LEAVING
from shared.headers import Headers, header, is_events, without_length
from shared.interrupt import Interrupt
from shared.sse import ENDS
from shared.uploads import UNBOUNDED, Uploads

DONE = (b"data: [DONE]", b"data:[DONE]")
KEPT = 16  # bytes that were sent last: as many as DONE and the end of its event


class ClientGone(Exception):
    """The client has left: there is nobody to answer."""


async def read_body(
    scope: Scope, receive: Receive, limit: int, uploads: Uploads = UNBOUNDED
) -> bytes:
    """The whole body, of `limit` bytes at most. One that says that it is longer is not read at all,
    and its client, if it asks first, not told to send it. What comes in one piece is not counted
    among the `uploads`."""
    if int(header(scope, b"content-length") or 0) > limit:
        raise TooLarge(limit)
    body, taken = bytearray(), 0
    try:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            body += message.get("body", b"")
            if len(body) > limit:
                raise TooLarge(limit)
            if not message.get("more_body", False):
                return bytes(body)
            uploads.take(len(body) - taken)
            taken = len(body)
    finally:
        uploads.give(taken)


def while_client_stays(scope: Scope) -> Interrupt:
    """Raises ClientGone in the block when the client leaves. Enter it only when the body has been
    read.

    uvicorn's `send` after a hang-up is silent, and a task that awaits `receive` would cost each
    request more than all the rest of this: the door says it at once.
    """
    interrupt = Interrupt()
    scope["extensions"][LEAVING](partial(interrupt.end, ClientGone()))
    return interrupt


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
        self._failure = failure
        self._is_events = is_events(headers)
        if self._is_events:  # an error may come behind what its engine has promised
            headers = without_length(headers)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        self.begun = True

    async def chunk(self, chunk: bytes) -> None:
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        self._last = (self._last + chunk[-KEPT:])[-KEPT:]

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

    @property
    def is_done(self) -> bool:
        """Whether what was sent shows by itself that it is whole: of an event stream its last
        event, as OpenAI's protocol ends one; of anything else nothing does."""
        return not self._is_events or self._last.rstrip().endswith(DONE)

    def _end_of_half_an_event(self) -> bytes:
        """So that what was cut off does not swallow the error."""
        return b"" if self._last.endswith(ENDS) else b"\n\n"
