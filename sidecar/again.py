"""How often something is tried again: a load that fails, a process that does not end.

Rule: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# From the third failed load or stall in a row, each further one waits twice as long (llama.cpp's
# and Kubernetes' crash loops: 10 s, doubling, 300 s at most). Integers: these never overflow.
FAILURES_FORGIVEN = 2
FIRST_BACKOFF = 10
LONGEST_BACKOFF = 300

FORCE_AGAIN = 1.0  # seconds at least between two signals to a process that does not end
# Seconds beyond its `stop_timeout`. The kernel ends a process within milliseconds, but for one that
# waits for a device: drivers mostly give up a hung GPU within some seconds.
UNKILLABLE_AFTER = 5.0


def backoff(failures: int) -> float:
    """Seconds before the next try, after so many failed loads or stalls in a row."""
    if failures <= FAILURES_FORGIVEN:
        return 0.0
    return float(min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** (failures - FAILURES_FORGIVEN - 1)))


@dataclass(slots=True)
class Force:
    """The end by force of one process. `again_at`: when it is told the next time."""

    stop: float  # its `stop_timeout`
    began: float = math.inf
    again_at: float = math.inf
    in_vain: bool = False

    def told(self, now: float) -> bool:
        """Once more. True if that shows for the first time that it is in vain."""
        before = self.in_vain
        self.began = min(self.began, now)
        in_vain_at = self.began + self.stop + UNKILLABLE_AFTER
        self.in_vain = now >= in_vain_at
        self.again_at = now + max(FORCE_AGAIN, self.stop)
        if not self.in_vain:
            self.again_at = min(self.again_at, in_vain_at)
        return self.in_vain and not before
