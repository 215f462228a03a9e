"""How long the search for a broken promise goes on.

By default it is short, and always the same: a run never fails by chance. `SWAPYARD_STORMS=1000`
(`make storms`) makes it a thousand times as many stories, others each time.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

STORMS = int(os.environ.get("SWAPYARD_STORMS", "1"))


def stories(examples: int, steps: int = 30) -> settings:
    """So many of them, and in a long run as many times more."""
    return settings(
        max_examples=examples * STORMS,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=STORMS == 1,
        print_blob=STORMS > 1,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
