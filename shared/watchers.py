"""An endless stream of events for each of hundreds of watchers.

Each watcher is one task that mostly waits, and takes what is newest when it can. One that does not
read stands still by itself: its connection takes no more, and nobody else waits for it.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

from starlette.types import Receive, Scope, Send

from shared.answer import Answer, ClientGone, read_body, while_client_stays
from shared.headers import EVENT_STREAM
from shared.watch import Watch

MAX_BODY = 2**16  # bytes; a watcher has nothing to say


class Watcher(Protocol):
    """What one watcher was told, and what is new to it. Times by the monotonic clock."""

    def news(self, now: float) -> bytes:
        """Whole events, or nothing."""

    @property
    def deadline(self) -> float:
        """When there is something to say even if nothing happens before."""


async def tell(
    watcher: Watcher, watched: Watch[Any], scope: Scope, receive: Receive, send: Send
) -> None:
    """Until the watcher leaves, or nothing follows any more."""
    answer = Answer(send)
    try:
        await read_body(scope, receive, MAX_BODY)
        with while_client_stays(scope):
            await answer.begin(200, EVENT_STREAM)
            if scope["method"] != "HEAD":
                await _tell(watcher, watched, answer)
            await answer.end()
    except ClientGone:
        pass


async def _tell(watcher: Watcher, watched: Watch[Any], answer: Answer) -> None:
    while True:
        seen = watched.changes
        if events := watcher.news(time.monotonic()):
            await answer.chunk(events)
        if watched.closed and watched.changes == seen:
            return
        await watched.change(seen, watcher.deadline)
