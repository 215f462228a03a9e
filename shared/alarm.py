"""Wakes a shell at the deadline of its core."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable


class Alarm:
    """Calls `ring` once at a moment of `time.monotonic`; a new moment replaces the one before."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at: float) -> None:
        """A moment that has passed is now; infinity is never."""
        self.cancel()
        if at < math.inf:
            wait = max(0.0, at - time.monotonic())
            self._handle = asyncio.get_running_loop().call_later(wait, self._ring)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
