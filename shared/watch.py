"""A value that changes and can be watched; newest wins.

A watcher sees the newest value, never a backlog: a slow reader skips versions and a writer never
waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Watch(Generic[T]):
    def __init__(self, value: T) -> None:
        self._value = value
        self._changed = asyncio.Event()
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

    async def beyond(self, seen: T) -> None:
        """Return as soon as the value is another one, or none will follow. Unlike a walk over the
        values it can be given up, for a deadline, and begun again."""
        while self._value == seen and not self._closed:
            await self._changed.wait()

    async def __aiter__(self) -> AsyncIterator[T]:
        """The value as it is now, then every newer one the reader is in time for."""
        while True:
            # Taken before the yield, so that no set() is missed.
            changed, value = self._changed, self._value
            yield value
            if not self._closed:
                await changed.wait()
            if self._closed and value is self._value:
                return

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
