"""What all boxes together say of a model: whether it is loaded, how far its load is, its context.

Rule 1: whether a model counts as loaded is decided here and nowhere else.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from router.view import BoxView
from shared.status import SERVING, ModelStatus, Phase

LoadState = Literal["loaded", "loading", "failed", "unloaded"]


@dataclass(frozen=True, slots=True)
class Load:
    """The best of what the boxes say."""

    state: LoadState
    progress: float | None = None  # of a load, as measured; what loads took before is no measure


def load_of(model: str, boxes: Collection[BoxView]) -> Load:
    """A switch counts as the load of the model that it makes room for."""
    if holders(model, boxes):
        return Load("loaded")
    live = [box for box in boxes if box.live]
    seen = [known for box in live if (known := box.of(model)) is not None]
    loads = [known for known in seen if known.phase is Phase.STARTING]
    claimed = any(box.status and box.status.switch_to(model) for box in live)
    if loads or claimed:
        return Load("loading", _furthest(loads))
    return Load("failed" if any(known.error for known in seen) else "unloaded")


def _furthest(loads: Iterable[ModelStatus]) -> float | None:
    measured = (
        load.progress
        for load in loads
        if load.progress is not None and load.progress_source != "history"
    )
    return max(measured, default=None)


def holders(model: str, boxes: Collection[BoxView]) -> list[BoxView]:
    """The boxes whose engine of the model is up, also while it finishes what it has."""
    live = [(box, box.of(model)) for box in boxes if box.live]
    return [box for box, known in live if known is not None and known.phase in SERVING]


def context_of(model: str, boxes: Collection[BoxView]) -> int | None:
    """What a request may use wherever it is served: the smallest that is known."""
    lengths = (box.facts[model].context_length for box in boxes)
    return min((length for length in lengths if length is not None), default=None)
