"""What tests of the line share: a line of boxes of one letter, and what it did."""

from __future__ import annotations

from typing import Any

from router.effects import Effect, Fail, Send
from router.limits import LineLimits
from router.line import Line
from shared.status import ModelStatus
from tests.core.said import catalogue, status


def new_line(boxes: str = "a", models: str = "xy", **limits: Any) -> Line:
    """Boxes of one letter that know all models and were not heard yet."""
    given = {"max_waiting": 100, "max_bytes": 1000, "max_wait": 600.0, "box_grace": 15.0}
    line = Line(LineLimits(**given | limits), boxes)
    for box in boxes:
        line.knows(box, catalogue(*models, box=box), now=0.0)
    return line


def says(
    line: Line, box: str, *models: ModelStatus, seq: int = 1, now: float = 0.0, **more: Any
) -> list[Effect]:
    return line.heard(box, status(*models, box=box, seq=seq, **more), now)


def sends(effects: list[Effect]) -> list[tuple[str, str]]:
    return [(e.ticket.id, e.box) for e in effects if isinstance(e, Send)]


def failed(effects: list[Effect]) -> dict[str, str]:
    return {e.ticket.id: e.error.code for e in effects if isinstance(e, Fail)}


def errors(effects: list[Effect]) -> list[Any]:
    return [e.error for e in effects if isinstance(e, Fail)]


def ids(line: Line, model: str = "x") -> list[str]:
    return [one.id for one in line.waiting().get(model, ())]
