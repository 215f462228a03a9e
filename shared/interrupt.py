"""A block that something outside can end: what waits in it is cancelled, and an error says why.

Unlike a task that watches and a task that works, it costs nothing until it is used. `end` may be
called from anywhere on the loop but from within the block itself.
"""

from __future__ import annotations

import asyncio
from types import TracebackType


class Interrupt:
    __slots__ = ("_error", "_task")

    def __init__(self) -> None:
        self._task: asyncio.Task[object] | None = None
        self._error: Exception | None = None

    def end(self, error: Exception) -> None:
        """Raise `error` in the block, now or, if it has not begun, at its first wait."""
        if self._error is None:
            self._error = error
            if self._task is not None:
                self._task.cancel()

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        if self._error is not None:
            raise self._error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if self._error is None or task is None:
            return
        if task.uncancel() == 0 and isinstance(error, asyncio.CancelledError):
            raise self._error from None
