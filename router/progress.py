"""One Tell -> the bytes that this client understands: the dialects.

Rule 1: a dialect is one row in `DIALECTS`; what a client is shown is chosen here and nowhere else.
Rule 2: this file does no I/O, reads no clock and never awaits.

A frame of `events` is a complete chunk with one choice and an empty delta, under the event name
`model_switching`: of the shapes that were tried with 25 client programs, the one that broke none.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from router.story import Tell
from shared import sse
from shared.errors import InvalidRequest

Format = Literal["chat", "text", "other"]


@dataclass(frozen=True, slots=True)
class Stream:
    """What the frames of one stream have in common. `created` in Unix seconds."""

    id: str
    model: str  # as the client named it
    created: int
    format: Format


MANY = 500  # clients that a router can tell once a second at little cost
LONGEST_INTERVAL = 5.0  # seconds; some clients count only data against their stall limits

Frame = Callable[[Stream, dict[str, Any]], bytes]


def switching(tell: Tell) -> dict[str, Any]:
    """The `model_switching` object."""
    return {
        "phase": tell.phase,
        "step": tell.step,
        "at": tell.at,
        "model": tell.model,
        "from": list(tell.from_),
        "box": tell.box,
        "position": tell.position,
        "elapsed_s": tell.elapsed_s,
        "eta_s": tell.eta_s,
        "progress": tell.progress,
        "progress_source": tell.progress_source,
    }


def served(reason: str, waited: float) -> dict[str, Any]:
    """What the last frame before the answer says besides; `waited` in seconds."""
    return {"reason": reason, "waited_ms": round(waited * 1000)}


def format_of(path: str) -> Format:
    """By the path below `/v1/`."""
    formats: dict[str, Format] = {"chat/completions": "chat", "completions": "text"}
    return formats.get(path, "other")


def interval(configured: float, waiting: int) -> float:
    """Seconds between two frames for one client: longer when very many wait, but never so long
    that a client takes the silence for the end."""
    return max(configured, min(LONGEST_INTERVAL, configured * waiting / MANY))


def frame(dialect: str, stream: Stream, told: dict[str, Any]) -> bytes:
    """`told`: a `model_switching` object. Streams that are not made of chunks get comments."""
    if stream.format == "other":
        return comments(stream, told)
    return DIALECTS[dialect](stream, told)


def known_dialect(name: str) -> str:
    """Raises InvalidRequest for a name that is none."""
    if name != OFF and name not in DIALECTS:
        names = ", ".join([*DIALECTS, OFF])
        raise InvalidRequest(
            f"X-Swapyard-Progress must be one of {names} (got {name!r}).", code="bad_progress"
        )
    return name


def events(stream: Stream, told: dict[str, Any]) -> bytes:
    data = {**empty_chunk(stream), "model_switching": told}
    return sse.encode(sse.Event(json.dumps(data), event="model_switching"))


def comments(stream: Stream, told: dict[str, Any]) -> bytes:
    words = [told["phase"], told["step"] or ""]
    if told["progress"] is not None:
        words.append(f"{told['progress']:.0%}")
    if told.get("position"):
        words.append(f"place {told['position']}")
    return sse.comment(" ".join(words))


def empty_chunk(stream: Stream) -> dict[str, Any]:
    if stream.format == "text":
        kind, choice = "text_completion", {"index": 0, "text": "", "finish_reason": None}
    else:
        kind, choice = "chat.completion.chunk", {"index": 0, "delta": {}, "finish_reason": None}
    return {
        "id": stream.id,
        "object": kind,
        "created": stream.created,
        "model": stream.model,
        "choices": [choice],
    }


OFF = "off"
DIALECTS: dict[str, Frame] = {
    "events": events,
    "comments": comments,
}
