"""One Tell -> the bytes that this client understands: the dialects.

Rule 1: a dialect is one row in `DIALECTS`; what a client is shown is chosen here and nowhere else.
Rule 2: this file does no I/O, reads no clock and never awaits.

A frame of `events` is a complete chunk with one choice and an empty delta, under the event name
`model_switching`: of the shapes that were tried with 25 client programs, the one that broke none.
"""

from __future__ import annotations

from pydantic_core import to_json

from router.reasoning import Narrator
from router.status_events import StatusEvents
from router.story import Tell
from router.voice import Format, Stream, Told, Voice, chunk
from shared import sse
from shared.errors import InvalidRequest

MANY = 500  # clients that a router can tell once a second at little cost
LONGEST_INTERVAL = 5.0  # seconds; some clients count only data against their stall limits


def switching(tell: Tell) -> Told:
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
        "eta_source": tell.eta_source,
        "progress": tell.progress,
        "progress_source": tell.progress_source,
    }


def served(reason: str, waited: float) -> Told:
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


def known_dialect(name: str) -> str:
    """Raises InvalidRequest for a name that is none."""
    if name not in DIALECTS:
        names = ", ".join(DIALECTS)
        raise InvalidRequest(
            f"X-Swapyard-Progress must be one of {names} (got {name!r}).", code="bad_progress"
        )
    return name


def speaks(dialect: str, stream: Stream) -> Voice:
    """Streams that are not made of chunks get comments."""
    voice = DIALECTS[dialect]
    return Comments(stream) if voice.talks and stream.format == "other" else voice(stream)


class Events(Voice):
    talks = True

    def tells(self, told: Told, at: float) -> bytes:
        return switching_event(self.stream, told, "")


class Reasoning(Voice):
    talks = True

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self._narrator = Narrator(stream)

    def tells(self, told: Told, at: float) -> bytes:
        return event(chunk(self.stream, delta(self._narrator.says(told))))


class EventsAndReasoning(Reasoning):
    def tells(self, told: Told, at: float) -> bytes:
        return switching_event(self.stream, told, self._narrator.says(told))


class Comments(Voice):
    talks = True

    def tells(self, told: Told, at: float) -> bytes:
        words = [told["phase"], told["step"] or ""]
        if told["progress"] is not None:
            words.append(f"{told['progress']:.0%}")
        if told["position"]:
            words.append(f"place {told['position']}")
        return sse.comment(" ".join(words))


def switching_event(stream: Stream, told: Told, reasoning: str) -> bytes:
    data = {**chunk(stream, delta(reasoning)), "model_switching": told}
    return event(data, "model_switching")


def event(data: object, name: str = "message") -> bytes:
    """pydantic's encoder: of all that a frame costs, Python's own took a tenth."""
    return sse.encode(sse.Event(to_json(data).decode(), name))


def delta(reasoning: str) -> dict[str, str]:
    return {"reasoning_content": reasoning} if reasoning else {}


OFF = "off"
DIALECTS: dict[str, type[Voice]] = {
    "events": Events,
    "reasoning": Reasoning,
    "events+reasoning": EventsAndReasoning,
    "status": StatusEvents,
    "comments": Comments,
    OFF: Voice,
}
