"""`keep_alive` in a request's body, as Ollama's clients send it: for how long the model is to stay.

Rule 1: a number is seconds, a text is a duration as Go writes it (`1h30m`) or a number of seconds;
below zero is for ever, zero is until nobody uses it. Ollama itself takes no number in a text, but
clients of its send "-1".
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

import math
import re

from shared.errors import InvalidRequest

# Go's time.ParseDuration. Both signs for micro are in use.
_PART = r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)"
_DURATION = re.compile(f"([-+]?)((?:{_PART})+)")
_SECONDS = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?")
_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_WIDEST = 64  # characters: Go's longest text of a duration has 21
LONGEST = 2**63 / 1e9  # seconds: 292 years, where Go's durations end


def seconds(value: object) -> float:
    """Infinity is for ever. Raises InvalidRequest."""
    found = _of_text(value) if isinstance(value, str) else value
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise _invalid()
    if found < 0:
        return math.inf
    if not found <= LONGEST:
        raise _invalid()
    return float(found)


def _of_text(text: str) -> float | None:
    if len(text) > _WIDEST:
        return None
    if _SECONDS.fullmatch(text):
        return float(text)
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    parts = re.findall(_PART, match[2])
    length = sum(float(number) * _UNITS[re.sub("[µμ]", "u", unit)] for number, unit in parts)
    return -length if match[1] == "-" else length


def _invalid() -> InvalidRequest:
    return InvalidRequest(
        'keep_alive must be a number of seconds or a duration such as "10m" or "1h30m"; below'
        " zero is for ever.",
        code="invalid_request",
        param="keep_alive",
    )
