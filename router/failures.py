"""Why a request fails, in the words of the error tree.

Rule 1: what a client is told when nobody serves it, or its engine fails, is chosen here and
nowhere else.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

from router import spread
from router.effects import Effect, Fail
from router.placement import untried
from router.queue import Queue, Ticket
from router.view import BoxView
from shared.errors import (
    DoesNotFit,
    EngineFailed,
    LoadFailed,
    QueueTimeout,
    SwapyardError,
    TenantLimit,
    Unavailable,
)
from shared.status import LoadError

BRIEF = 1.0  # seconds after which it makes sense to try again


def who_fails(
    model: str,
    queue: Queue,
    failed: Collection[BoxView],
    possible: Collection[BoxView],
    max_wait: float,
    now: float,
) -> list[Effect]:
    """Those who waited too long, and those whose load has failed wherever it may be tried. What has
    not failed for the oldest has failed for nobody: then the line is not walked through."""
    oldest = queue.oldest()
    if now < oldest + max_wait and untried(model, possible, oldest):
        return []
    effects: list[Effect] = []
    for ticket in queue:
        error = answer_of(model, ticket.arrived, failed, possible)
        if error is not None:
            effects.append(fails(ticket, load_failed(model, error, error.retry_in_s)))
        elif now >= ticket.arrived + max_wait:
            effects.append(Fail(ticket, QueueTimeout(model, now - ticket.arrived)))
    return effects


def answer_of(
    model: str, arrived: float, failed: Collection[BoxView], possible: Collection[BoxView]
) -> LoadError | None:
    """How the newest of the loads failed that a request has seen; None while there is a box that
    may try and has not failed since it came."""
    seen = [
        (at, error)
        for box in failed
        if (at := box.load_failed_at(model)) is not None
        and at >= arrived
        and (error := box.load_error(model)) is not None
    ]
    if not seen or untried(model, possible, arrived):
        return None
    return max(seen, key=lambda load: load[0])[1]


def nobody_can(
    model: str, boxes: Collection[BoxView], grace: float, now: float
) -> SwapyardError | None:
    """Why no box serves it now: the cause that ends first. None if a lost box may come back
    within its `grace`."""
    boxes = [box for box in boxes if box.has(model)]
    if may_return(boxes, grace, now):
        return None
    errors = [(box, error) for box in boxes if box.live and (error := box.error(model))]
    backing_off = [
        (box.backs_off_until(model), error)
        for box, error in errors
        if not box.can_never_hold(model)
    ]
    if backing_off:
        until, error = min(backing_off, key=lambda pair: pair[0])
        return load_failed(model, error, until - now)
    lost = [box.name for box in boxes if not box.live]
    if errors and not lost:
        return DoesNotFit(errors[0][1].message)
    return Unavailable(
        f"No box that has {model} can be reached: {', '.join(lost) or 'none'}.",
        code="box_unreachable",
        retry_after=grace,
    )


def fails(ticket: Ticket, error: SwapyardError) -> Fail:
    """A model that rests is asked for again when its rest is over, and not by all at once."""
    if isinstance(error, LoadFailed) and error.retry_after is not None:
        cause, tail = error.more["cause"], error.more["log_tail"]
        later = spread.after(error.retry_after, ticket.id)
        return Fail(ticket, LoadFailed(error.message, cause, tail, later))
    return Fail(ticket, error)


def may_return(boxes: Iterable[BoxView], grace: float, now: float) -> list[BoxView]:
    """Lost boxes that are not given up yet."""
    lost = (box for box in boxes if not box.live)
    return [box for box in lost if box.lost_at is None or now < box.lost_at + grace]


def load_failed(model: str, error: LoadError, retry_after: float | None) -> LoadFailed:
    return LoadFailed(
        f"{model} could not be loaded: {error.message}",
        error.cause,
        list(error.log_tail),
        retry_after,
    )


def broken_off(model: str) -> EngineFailed:
    said = f"The box ended the connection before {model} had answered, and so did the one before."
    return EngineFailed(said, code="engine_died")


def fell_silent(box: str) -> EngineFailed:
    return EngineFailed(f"The box {box} cannot be heard any more.", code="engine_died")


def not_let_in(box: str) -> Unavailable:
    """The key that the box does not take is this router's: the client's own was good."""
    said = f"The box {box} does not let this router in: the router's log says more."
    return Unavailable(said, code="box_unreachable", retry_after=BRIEF)


def engine_failed(error: object, **more: Any) -> EngineFailed:
    """By what the engine said. Engines differ in what they make of an error: an object, or only
    its text."""
    said = error if isinstance(error, dict) else {"message": error}
    code = said.get("code")
    return EngineFailed(
        str(said.get("message") or "The engine has failed."),
        code=code if isinstance(code, str) else "engine_error",
        **more,
    )


def no_stream(status: int, body: bytes) -> EngineFailed:
    """Of an answer that is no stream, for a client that was promised one."""
    try:
        said = json.loads(body)["error"]
        error = {"message": str(said["message"]), "code": said.get("code")}
    except (ValueError, TypeError, KeyError):
        error = {"message": body[:500].decode("utf-8", "replace")}
    error["message"] = error["message"] or f"The engine answered {status}."
    failed = engine_failed(error, engine_status=status)
    if 400 <= status < 500:
        failed.type = "invalid_request_error"
    return failed


def queue_full(waiting: int, held: int | None, retry_after: float) -> Unavailable:
    """`held`: the bytes of their bodies, where these are why."""
    said = f"{waiting} requests{_with_bodies(held)} wait already."
    return Unavailable(said, code="queue_full", retry_after=retry_after)


def tenant_limit(waiting: int, held: int | None, retry_after: float) -> TenantLimit:
    said = f"{waiting} of your requests{_with_bodies(held)} wait already."
    return TenantLimit(said, code="tenant_limit", retry_after=retry_after)


def _with_bodies(held: int | None) -> str:
    return "" if held is None else f" with bodies of {held} bytes"


def shutting_down() -> Unavailable:
    return Unavailable("This router is shutting down.", code="shutting_down", retry_after=BRIEF)
