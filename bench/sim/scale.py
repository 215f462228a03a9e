"""What decisions cost in a large fleet: every call of the cores is timed, on a virtual clock.

A hundred boxes, each with a part of the models and room for a few of them; requests come to one
router, for a few models often and for most rarely.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.sim.fleet import Fleet
from bench.sim.timing import Times, timed
from bench.workload import spread, zipf
from router.line import Line
from sidecar.box import Box
from tests.core import pair_sidecar
from tests.core.pair_sidecar import Program

BOXES = 100
MODELS_PER_BOX = 25
RESIDENTS = 6  # that a box has room for: not all, and those that are asked for often
RATE = 5.0  # requests per second and box
ANSWER = spread(1.0)
SLOTS = 64  # so that the hottest of 1,000 models is served by the two or three boxes that have it
WARM = 0.2  # of the requests come before anything is timed, and find nothing loaded;
MOST_WARM = 20_000  # at most


@dataclass(frozen=True, slots=True)
class Scale:
    requests: int
    models: int
    boxes: int = BOXES
    seed: int = 1


def of_the_boxes(scale: Scale) -> list[Mapping[str, Program]]:
    """Each box has the next `MODELS_PER_BOX` models of a circle; loads of 2 to 20 s."""
    chance = random.Random(scale.seed)
    programs = {
        f"m{n}": Program(load=chance.uniform(2, 20), slots=SLOTS) for n in range(scale.models)
    }
    names, each = [*programs], min(MODELS_PER_BOX, scale.models)
    firsts = (n * scale.models // scale.boxes for n in range(scale.boxes))
    return [
        {name: programs[name] for k in range(each) for name in [names[(first + k) % len(names)]]}
        for first in firsts
    ]


def play(scale: Scale) -> dict[str, Any]:
    """Microseconds per call of a core, and of all cores per request."""
    fleet = Fleet(of_the_boxes(scale), scale.seed, room=RESIDENTS)
    rate, chance = RATE * scale.boxes, random.Random(scale.seed)
    fleet.play(some(scale, min(MOST_WARM, int(WARM * scale.requests)), chance), rate, chance)
    with timed((Line, Box), ((pair_sidecar, "report"),)) as times:
        fleet.play(some(scale, scale.requests, chance), rate, chance)
    return {
        "requests": scale.requests,
        "models": scale.models,
        "boxes": scale.boxes,
        "answered": fleet.answered,
        "loads": fleet.loads,
        "refusals": fleet.refusals,
        "virtual_s": round(fleet.clock.now, 1),
        "mean_wait_s": round(fleet.waited / max(1, fleet.answered), 3),
        **told(times, scale.requests),
    }


def some(scale: Scale, count: int, chance: random.Random) -> Iterator[tuple[str, float]]:
    """Requests: their models and how long their answers are."""
    rates = zipf([f"m{n}" for n in range(scale.models)], 1.0, scale.seed)
    models = chance.choices([*rates], [*rates.values()], k=count)
    return ((model, ANSWER(chance)) for model in models)


def told(times: Times, requests: int) -> dict[str, Any]:
    calls = sum(times.calls.values())
    seconds = sum(times.seconds.values())
    by_name = sorted(times.calls, key=lambda name: -times.seconds[name])
    return {
        "calls": calls,
        "us_per_call": round(1e6 * seconds / max(1, calls), 1),
        "us_per_request": round(1e6 * seconds / requests, 1),
        "us_by_call": {
            name: {
                "calls": times.calls[name],
                "mean": round(1e6 * times.seconds[name] / times.calls[name], 1),
            }
            for name in by_name
        },
    }
