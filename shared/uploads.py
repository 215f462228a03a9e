"""How much memory bodies take that are still on their way in, all of them together.

Rule: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

import math
from typing import Final

from shared.errors import Unavailable

SOON = 1.0  # seconds: an upload takes about that long, or is broken off


class Uploads:
    """`most`: bytes."""

    def __init__(self, most: float = math.inf) -> None:
        self._most = most
        self._taken = 0

    def take(self, size: int) -> None:
        """Each needs a `give`. Unavailable if there is no room for so many."""
        if self._taken + size > self._most:
            said = f"Bodies that are being sent take {self._taken / 2**20:.0f} MiB already."
            raise Unavailable(said, code="queue_full", retry_after=SOON)
        self._taken += size

    def give(self, size: int) -> None:
        self._taken -= size


UNBOUNDED: Final = Uploads()
