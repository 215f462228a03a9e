"""How long a line would wait for a model on one box.

Rule 1: this is advice, as all that a router knows of boxes is.
Rule 2: this file does no I/O, reads no clock and never awaits.

Sidecars that do not say when a model could be ready are asked for what they do say: the time left
of a load or a switch, else what a load takes, behind those that they plan.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from router.view import BoxView
from shared.status import ModelStatus, Phase

UNKNOWN_SERVICE = 1.0  # seconds of an answer, while a box has given none
UNKNOWN_LOAD = 10.0  # seconds, where nobody knows: longer than small models take, not than large


class Expected(NamedTuple):
    """Seconds until the last who waits is served there, and what they are made of."""

    load: float  # until the model is ready
    line: float  # until a slot is free for the last
    disturbs: float = 0.0  # what it would cost other models
    others: float = 0.0  # loads that were asked for there, and that the box has not told of yet


def expected(
    known: ModelStatus, box: BoxView, waiting: int, now: float, asked: Iterable[str] = ()
) -> Expected:
    """`known`: what the box says of the model; `asked`: models for which it was asked, and of which
    it says nothing yet."""
    per_request = service(known) / max(1, known.slots)
    if known.phase is Phase.READY:
        behind = max(0, box.busy(known.id) + waiting - known.slots)
        return Expected(0.0, behind * per_request)
    line = max(0, waiting - known.slots) * per_request
    if known.phase is Phase.STARTING:
        return Expected(rest_of_load(box, known, now), line)
    others = sum((load(box.of(other)) for other in asked if other != known.id), 0.0)
    return Expected(ready_in(box, known), line, known.disturbs_s, others)


def served_by(model: str, boxes: Iterable[BoxView], waiting: int) -> float:
    """Seconds until the last who waits is served by all of these, which have it ready."""
    slots = busy = 0
    rate = 0.0  # requests per second
    for box in boxes:
        known = box.of(model) or ModelStatus(model)
        slots += known.slots
        busy += box.busy(model)
        rate += max(1, known.slots) / service(known)
    return max(0, busy + waiting - slots) / rate


def service(known: ModelStatus) -> float:
    return known.service_s or UNKNOWN_SERVICE


def load(known: ModelStatus | None) -> float:
    return UNKNOWN_LOAD if known is None or known.load_s is None else known.load_s


def rest_of_load(box: BoxView, known: ModelStatus, now: float) -> float:
    told = known.eta_s if known.ready_in_s is None else known.ready_in_s
    return max(0.0, (load(known) if told is None else told) - (now - box.heard_at))


def ready_in(box: BoxView, known: ModelStatus) -> float:
    if known.ready_in_s is not None:
        return known.ready_in_s
    assert box.status is not None
    switch = box.status.switch_to(known.id)
    if switch is not None and switch.eta_s is not None:
        return switch.eta_s
    planned = {entry.model for entry in box.status.plan if entry.action != "drain"} - {known.id}
    return load(known) + sum(load(box.of(model)) for model in planned)
