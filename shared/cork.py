"""A transport that sends what is written in one turn of the loop together.

uvloop sends each write by itself and at once: the head of an answer and its body would be two
packets, two system calls here and two wake-ups at the other end.
"""

from __future__ import annotations

import asyncio
from typing import Any

HIGH_WATER = 64 * 2**10  # bytes that are not kept back for more


class Corked:
    """As much of a transport as uvicorn's protocols and our door use."""

    __slots__ = ("_kept", "_loop", "_size", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._kept: list[bytes] = []
        self._size = 0
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._kept:
            self._loop.call_soon(self.flush)
        self._kept.append(data)
        self._size += len(data)
        if self._size > HIGH_WATER:
            self.flush()

    def flush(self) -> None:
        if self._kept:
            kept, self._kept, self._size = self._kept, [], 0
            self._transport.write(kept[0] if len(kept) == 1 else b"".join(kept))

    def get_write_buffer_size(self) -> int:
        return self._size + self._transport.get_write_buffer_size()

    def write_eof(self) -> None:
        self.flush()
        self._transport.write_eof()

    def close(self) -> None:
        self.flush()
        self._transport.close()
