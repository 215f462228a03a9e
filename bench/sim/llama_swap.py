"""A model of llama-swap on one box, for comparison: one model at a time, no limit on requests.

Requests for the loaded model join it while it is loaded; it leaves when it has nothing to do, for
whoever waits longest. A start is looked at after 0.25 s and then once a second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from bench.sim.onebox import OneBox
from bench.sim.policies import Rule
from bench.workload import Workload
from tests.core.pair_sidecar import Program

FIRST_LOOK, LOOK = 0.25, 1.0  # seconds
OVERHEAD = 0.01


def seen_ready(load: float) -> float:
    """When llama-swap notices that a load of so many seconds is done."""
    return FIRST_LOOK + LOOK * max(0, math.ceil(load - FIRST_LOOK)) + OVERHEAD


def llama_swap(programs: Mapping[str, Program], workload: Workload) -> OneBox:
    """With the workload on its agenda."""
    seen = {id: replace(p, load=seen_ready(p.load), slots=10_000) for id, p in programs.items()}
    box = OneBox(Rule(), seen, room=1)
    box.play(workload)
    return box
