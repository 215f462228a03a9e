"""The server's side of every connection: uvicorn's protocol, and what it leaves to others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shared.cork import Corked

Leaving = Callable[[], None] | None


class Door(HttpToolsProtocol):
    _left: Leaving = None
    _corked: Any

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._corked = Corked(transport)
        super().connection_made(self._corked)

    def on_headers_complete(self) -> None:
        self._left = None
        self.scope["extensions"] = {"swapyard.leaving": self._leaving}  # type: ignore[dict-item]
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        self._corked.flush()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        left, self._left = self._left, None
        super().connection_lost(exc)
        if left is not None:
            left()

    def _leaving(self, callback: Leaving) -> None:
        self._left = callback
