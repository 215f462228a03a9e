"""Wakes a shell at the deadline of its core.

A core's deadline moves with almost every request, and mostly to later: then the timer that runs is
left as it is, and looks again when it fires.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable


class Alarm:
    """Calls `ring` once at a moment of `time.monotonic`; a new moment replaces the one before."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._at = math.inf
        self._looks_at = math.inf  # when the timer fires
        self._handle: asyncio.TimerHandle | None = None

    @property
    def at(self) -> float:
        """The moment; infinity: none."""
        return self._at

    def set(self, at: float) -> None:
        """A moment that has passed is now; infinity is never."""
        self._at = at
        if at < self._looks_at:
            self._start()

    def cancel(self) -> None:
        self._at = self._looks_at = math.inf
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _start(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._looks_at = self._at
        wait = max(0.0, self._at - time.monotonic())
        self._handle = asyncio.get_running_loop().call_later(wait, self._look)

    def _look(self) -> None:
        self._handle, self._looks_at = None, math.inf
        if time.monotonic() >= self._at:
            self._at = math.inf
            self._ring()
        elif self._at < math.inf:
            self._start()
