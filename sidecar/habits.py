"""How a model is used: how often it is asked for, and how soon again after it went idle.

Rule: this file does no I/O, reads no clock and never awaits. Times in seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sidecar.estimate import mean

RATE_DECAY = 300.0  # what was asked for that long ago counts a third
RETURN_WEIGHT = 0.2  # of the newest return: the figure that the rules were tried with
MOSTLY = 0.7
UNKNOWN = 0.5  # three returns in a row are enough then; from 0 it took six, and gained nothing


@dataclass(slots=True)
class Habits:
    _rate: float = 0.0  # requests per second, at `_rated_at`
    _rated_at: float = 0.0
    _returning: float = UNKNOWN  # how mostly it was asked for again within its grace
    _idle_since: float | None = None  # None: it was asked for since

    def rate(self, now: float) -> float:
        """Requests per second, of late."""
        return self._rate * math.exp(-(now - self._rated_at) / RATE_DECAY)

    @property
    def returns(self) -> bool:
        """Whether its next request mostly comes within its grace."""
        return self._returning > MOSTLY

    def admitted(self, now: float) -> None:
        self._rate, self._rated_at = self.rate(now) + 1 / RATE_DECAY, now

    def went_idle(self, now: float) -> None:
        self._idle_since = now

    def asked(self, grace: float, now: float) -> None:
        """Somebody wants it, whether it is still there or not: the first since it went idle shows
        whether keeping it for `grace` seconds would have been worth while."""
        if self._idle_since is not None:
            came = float(now - self._idle_since <= grace)
            self._returning = mean(self._returning, came, RETURN_WEIGHT)
            self._idle_since = None
