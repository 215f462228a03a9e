"""A value that changes and can be watched; newest wins.

A watcher sees the newest value, never a backlog: a slow reader skips versions and a writer never
waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Watch(Generic[T]):
    def __init__(self, value: T) -> None:
        self._value = value
        self.changes = 0  # how often it was set, or closed
        self._waiting: set[asyncio.Future[None]] = set()
        self._closed = False

    @property
    def value(self) -> T:
        return self._value

    @property
    def closed(self) -> bool:
        return self._closed

    def set(self, value: T) -> None:
        self._value = value
        self._wake()

    def close(self) -> None:
        """End all who watch, after the newest value."""
        self._closed = True
        self._wake()

    async def change(self, seen: int, at: float | None = None) -> None:
        """Return once there were more changes than the reader has `seen`, or at that moment of
        `time.monotonic`."""
        if self.changes != seen:
            return
        loop = asyncio.get_running_loop()
        waiting = loop.create_future()
        timer = None
        if at is not None:
            timer = loop.call_later(max(0.0, at - time.monotonic()), _wake, waiting)
        self._waiting.add(waiting)
        try:
            await waiting
        finally:
            self._waiting.discard(waiting)
            if timer is not None:
                timer.cancel()

    async def __aiter__(self) -> AsyncIterator[T]:
        """The value as it is now, then every newer one the reader is in time for."""
        while True:
            # Taken before the yield, so that no set() is missed.
            seen, value = self.changes, self._value
            yield value
            if not self._closed:
                await self.change(seen)
            if self._closed and value is self._value:
                return

    def _wake(self) -> None:
        self.changes += 1
        for waiting in self._waiting:
            _wake(waiting)


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
