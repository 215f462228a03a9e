"""What the line decides for each request, by how many wait: its core alone, without a socket.

Rule: each step is what happens to one more request: it comes, it is told where it stands, it
leaves; or it finds a free slot and passes by all who wait for another model.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import Any

from router.limits import LineLimits
from router.line import Line
from router.queue import Ticket
from shared.status import Catalogue, ModelFacts, ModelStatus, Phase, Status, Switch

WAITING = (0, 100, 1_000, 10_000)
TIMES = 2_000
LIMITS = LineLimits(max_waiting=20_000, max_bytes=2**40, max_wait=600.0, box_grace=15.0)
MODELS = (ModelStatus("warm", Phase.READY, slots=64), ModelStatus("late", Phase.STARTING, slots=64))


def measured() -> dict[str, Any]:
    """Microseconds of each step."""
    return {str(waiting): steps(waiting) for waiting in WAITING}


def steps(waiting: int) -> dict[str, float]:
    line, numbers = switching(), count()

    def ticket(model: str) -> Ticket:
        number = next(numbers)
        return Ticket(f"{number:012}", model, number * 1e-6, size=2048)

    for _ in range(waiting):
        line.arrived(ticket("late"), 0.0)
    few = [ticket("late") for _ in range(TIMES)]
    warm = [ticket("warm") for _ in range(TIMES)]

    def passes_by(one: Ticket) -> None:
        line.arrived(one, 0.0)
        line.left(one, 0.0)

    return {
        "comes": each(lambda one: line.arrived(one, 0.0), few),
        "is_told": each(lambda one: line.tell(one, 0.0), few),
        "leaves": each(lambda one: line.left(one, 0.0), few),
        "finds_a_slot": each(passes_by, warm),
    }


def each(step: Callable[[Ticket], object], tickets: list[Ticket]) -> float:
    began = time.perf_counter()
    for ticket in tickets:
        step(ticket)
    return round((time.perf_counter() - began) / len(tickets) * 1e6, 1)


def switching() -> Line:
    """To one box, which serves one model and switches to another."""
    line = Line(LIMITS, ["box"])
    facts = tuple(ModelFacts(one.id, "command", one.id, None, one.slots) for one in MODELS)
    line.knows("box", Catalogue("box", "boot", facts), 0.0)
    switch = Switch("s-1", "late", Phase.STARTING, None, 0.0, eta_s=60.0, eta_source="history")
    line.heard("box", Status(1, "box", "boot", 1, 0.0, switches=(switch,), models=MODELS), 0.0)
    return line
