"""When to come back, a little different for each: those sent away together do not come together.

Rule: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

import hashlib

SPREAD = 0.2  # of the time, to either side


def around(seconds: float, id: str) -> float:
    """By the request's own id: the same request is always told the same."""
    return seconds * (1 - SPREAD + 2 * SPREAD * _drawn(id))


def after(seconds: float, id: str) -> float:
    """The same for a moment before which it is of no use to come."""
    return seconds * (1 + 2 * SPREAD * _drawn(id))


def _drawn(id: str) -> float:
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=4).digest()) / 2**32
