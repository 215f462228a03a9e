"""How a router tells a sidecar for how long a request wants its model kept: one header.

Rule: both programs write and read it here, and nowhere else.
"""

from __future__ import annotations

import math
import re

from shared.errors import InvalidRequest

HEADER = b"x-swapyard-keep-alive"


def told(seconds: float) -> bytes:
    """Infinity is for ever."""
    return b"never" if seconds == math.inf else f"{seconds:.3f}".encode()


def heard(value: str | None) -> float | None:
    """In seconds; None: the request has no wish. Raises InvalidRequest."""
    if value is None:
        return None
    if value == "never":
        return math.inf
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", value):
        raise InvalidRequest(
            "X-Swapyard-Keep-Alive must be a number of seconds or never.", code="invalid_request"
        )
    return float(value)
