"""Which boxes would be asked for a model now, and why, in words.

Rule 1: nothing is decided here: what is told is what `placement.py` decides.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from router.expect import Expected
from router.placement import WORTH_A_COPY, Decision, Offer
from router.view import BoxView

Told = dict[str, Any]


def explain(
    model: str,
    boxes: Collection[BoxView],
    serves: BoxView | None,
    decision: Decision | None,
    waiting: int,
    asked: Collection[str],
    now: float,
) -> Told:
    """`boxes`: all that have it; `serves`: the one that a request is sent to at once; `asked`: keys
    of those that are asked for it already."""
    by_key = {offer.box.key: offer for offer in decision.among} if decision else {}
    chosen = [serves] if serves else list(decision.boxes) if decision else []
    keys = [box.key for box in chosen]
    return {
        "model": model,
        "waiting": waiting,
        "asked": [box.name for box in boxes if box.key in asked],
        "would_ask": [box.name for box in chosen],
        "because": because(serves, decision),
        "copy": copy(decision),
        "boxes": [told(model, box, by_key.get(box.key), box.key in keys, now) for box in boxes],
    }


def because(serves: BoxView | None, decision: Decision | None) -> str:
    if serves is not None:
        return f"{serves.name} has it ready and a free slot"
    if decision is None:
        return "no box may serve it now"
    first = decision.first
    name, seconds = first.box.name, f"{first.total:.1f} s"
    if first.holds:
        return f"{name} holds it and serves the last who waits in {seconds}"
    return f"no box holds it; {name} is expected to serve the last who waits in {seconds}"


def copy(decision: Decision | None) -> Told | None:
    """Of a further copy; None where the model is ready nowhere, or everywhere."""
    if decision is None or decision.copy is None:
        return None
    box, served, needs = decision.copy.box.name, decision.served_s, decision.copy.needs
    than = "more" if decision.wants_copy else "no more"
    return {
        "wanted": decision.wants_copy,
        "box": box,
        "because": f"the last who waits is served in {served:.1f} s by the copies there, {than} "
        f"than {WORTH_A_COPY:g} of the {needs:.1f} s that {box} needs",
    }


def told(model: str, box: BoxView, offer: Offer | None, chosen: bool, now: float) -> Told:
    return {
        "box": box.name,
        "url": box.key,
        "live": box.live,
        "phase": box.phase(model) if box.live else None,
        "holds": box.holds(model),
        "chosen": chosen,
        "expected_s": round(offer.total, 3) if offer else None,
        "parts": parts(offer.expected) if offer else {},
        "because": made_of(offer.expected) if offer else why_not(model, box, now),
    }


def parts(expected: Expected) -> Mapping[str, float]:
    return {f"{name}_s": round(seconds, 3) for name, seconds in expected._asdict().items()}


def made_of(expected: Expected) -> str:
    words = {
        "until it is ready": expected.load,
        "for a slot": expected.line,
        "that it would cost other models": expected.disturbs,
        "for loads that were asked for before": expected.others,
    }
    said = [f"{seconds:.1f} s {what}" for what, seconds in words.items() if seconds >= 0.05]
    return ", ".join(said) or "at once"


def why_not(model: str, box: BoxView, now: float) -> str:
    """Of a box that may not serve it."""
    if not box.live:
        return f"it is not heard: {box.trouble or 'it has said nothing yet'}"
    error, rest = box.error(model), box.backs_off_until(model) - now
    if error is not None and box.can_never_hold(model):
        return error.message
    if rest > 0:
        return f"its load failed here, and is not tried again for {rest:.0f} s"
    if box.load_error(model):
        return "its load failed here, and is not tried here again for those who wait"
    return "its load failed elsewhere, for a cause that any box would meet"
