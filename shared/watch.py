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

    def set(self, value: T) -> None:
        self._value = value
        self._wake()

    def close(self) -> None:
        """End all who watch, after the newest value."""
        self._closed = True
        self._wake()

    async def changed(self) -> None:
        """Return at the next `set` or `close`. Take the value after it, not before."""
        await self._changed.wait()

    async def __aiter__(self) -> AsyncIterator[T]:
        """The value as it is now, then every newer one the reader is in time for."""
        while True:
            changed = self._changed  # taken before the yield, so that no set() is missed
            yield self._value
            if self._closed:
                return
            await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
