"""Which box should serve a model that waits.

Rule 1: this is advice to the line: what it places, a sidecar may still refuse.
Rule 2: this file does no I/O, reads no clock and never awaits.

A box that holds the model comes first, then the box where the fewest wait. One box is told, never
all: every box would load it. A choice stays until it is none any more, or until others hold the
model and it does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from router.view import BoxView


def candidates(model: str, boxes: Iterable[BoxView], now: float) -> list[BoxView]:
    """Boxes that could serve it."""
    return [
        box
        for box in boxes
        if box.live
        and box.has(model)
        and not box.can_never_hold(model)
        and (box.holds(model) or now >= box.backs_off_until(model))
    ]


def choose(
    model: str, possible: list[BoxView], current: str | None, waiting: Mapping[str, int]
) -> BoxView:
    """`waiting`: how many requests of this router each box is asked to serve already."""
    holding = [box for box in possible if box.holds(model)]
    stays = next((box for box in holding or possible if box.key == current), None)
    if stays is not None:
        return stays
    if holding:
        return with_most_room(model, holding)
    return min(possible, key=lambda box: (waiting.get(box.key, 0), affinity(model, box)))


def with_most_room(model: str, boxes: Iterable[BoxView]) -> BoxView:
    """Of boxes that hold the model, the one with most free slots."""
    return min(boxes, key=lambda box: (-box.free_slots(model), affinity(model, box)))


def affinity(model: str, box: BoxView) -> bytes:
    """Rendezvous hash: routers that know the same choose the same, without talking."""
    return hashlib.blake2b(f"{model}\0{box.name}".encode(), digest_size=8).digest()
