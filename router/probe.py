"""Is all well? What a router or a sidecar says of itself -> one verdict, for monitoring.

Rule 1: what is a warning and what is critical is decided here and nowhere else.
Rule 2: this file does no I/O, reads no clock and never awaits.

States and the form of the line are those of the Nagios plugin guidelines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from shared.status import ModelStatus, Status

LONGEST_TEXT = 800  # characters; older NRPE passes on 1 KiB, figures included


# An engine that died is loaded again when somebody asks.
CANNOT_LOAD = ("load_failed", "does_not_fit")


class State(IntEnum):
    """What a plugin exits with."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


Finding = tuple[State, str]


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that somebody may wait, or a switch may take."""

    warning: float = 120.0  # a sidecar's `scheduling.patience`
    critical: float = 300.0  # half of a router's `queue.max_wait`, after which it gives up

    def state(self, seconds: float) -> State:
        if seconds > self.critical:
            return State.CRITICAL
        return State.WARNING if seconds > self.warning else State.OK


@dataclass(frozen=True, slots=True)
class Box:
    name: str
    status: Status | None = None  # None: it cannot be reached
    trouble: str | None = None  # why


@dataclass(frozen=True, slots=True)
class Waiting:
    model: str
    waiting: int
    oldest_s: float = 0.0  # a sidecar does not know


@dataclass(frozen=True, slots=True)
class Seen:
    """Every box that should be there, and who waits."""

    boxes: tuple[Box, ...]
    line: tuple[Waiting, ...]

    @property
    def live(self) -> list[Status]:
        return [box.status for box in self.boxes if box.status is not None]

    def of(self, model: str) -> list[ModelStatus]:
        return [known for status in self.live for known in status.models if known.id == model]


@dataclass(frozen=True, slots=True)
class Verdict:
    state: State
    text: str
    figures: str = ""

    def line(self) -> str:
        """Engines' own words may be in the text: nothing of them may break the line's form."""
        plain = "".join(c if c.isprintable() else " " for c in self.text.replace("|", "/"))
        said = f"{self.state.name} - {' '.join(plain.split())[:LONGEST_TEXT]}"
        return f"{said} | {self.figures}" if self.figures else said


# What was heard.


def of_router(fleet: bytes) -> Seen:
    """The answer to `GET /api/fleet`. Raises ValueError for anything else."""
    said = json.loads(fleet)
    try:
        boxes = tuple(_box(box) for box in said["boxes"] if box["live"] or not box.get("optional"))
        line = tuple(
            Waiting(str(w["model"]), int(w["waiting"]), float(w["oldest_s"])) for w in said["line"]
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a fleet: {error!r}") from None
    return Seen(boxes, line)


def _box(said: dict[str, Any]) -> Box:
    status = Status.from_json(json.dumps(said)) if said["live"] else None
    return Box(str(said["box"]), status, said.get("trouble"))


def of_sidecar(status: bytes) -> Seen:
    """The answer to `GET /models/status`. Raises ValueError for anything else."""
    said = Status.from_json(status)
    line = tuple(Waiting(model.id, model.waiting) for model in said.models if model.waiting)
    return Seen((Box(said.box, said),), line)


READERS = {"/api/fleet": of_router, "/models/status": of_sidecar}


# What follows.


def judge(seen: Seen, limits: Limits, models: Sequence[str] = ()) -> Verdict:
    """`models`: those that must be there; failures and waits of others do not count then, what a
    box says is wrong with it does."""
    findings = [
        *_boxes(seen),
        *_missing(seen, models),
        *_problems(seen),
        *_failures(seen, models),
        *_delays(seen, limits, models),
    ]
    findings.sort(key=lambda finding: -finding[0])
    state = findings[0][0] if findings else State.OK
    text = "; ".join(said for _, said in findings) or _all_is_well(seen)
    return Verdict(state, text, _figures(seen, limits))


def refused(url: str, codes: Sequence[int]) -> Verdict:
    """Somebody answers there, but with these HTTP statuses instead of a Status."""
    if {401, 403} & set(codes):
        return Verdict(State.UNKNOWN, f"{url} wants a key that may read: set SWAPYARD_KEY")
    if max(codes) >= 500:
        return Verdict(State.CRITICAL, f"{url} answers {max(codes)}")
    return Verdict(State.UNKNOWN, f"{url} is neither a router nor a sidecar")


def unreachable(url: str, why: str) -> Verdict:
    return Verdict(State.CRITICAL, f"{url} cannot be reached: {why}")


def unwell(url: str, why: str) -> Verdict:
    """By its own word: it answers, and does not decide."""
    return Verdict(State.CRITICAL, f"{url} is not well: {why}")


def no_answer_of_ours(url: str) -> Verdict:
    return Verdict(State.UNKNOWN, f"{url} answers, but not as swapyard does")


def _boxes(seen: Seen) -> Iterator[Finding]:
    worst = State.WARNING if seen.live else State.CRITICAL
    if not seen.boxes:
        yield worst, "no box can be reached"
    for box in seen.boxes:
        if box.status is None:
            why = f": {box.trouble}" if box.trouble else ""
            yield worst, f"box {box.name} cannot be reached{why}"


def _missing(seen: Seen, models: Sequence[str]) -> Iterator[Finding]:
    for id in models:
        copies = seen.of(id)
        if not copies:
            yield State.CRITICAL, f"no box that can be reached has {id}"
        elif all(copy.error and copy.error.code in CANNOT_LOAD for copy in copies):
            yield State.CRITICAL, f"no box can load {id}"


def _problems(seen: Seen) -> Iterator[Finding]:
    for status in seen.live:
        for problem in status.problems:
            yield State.WARNING, f"box {status.box}: {problem}"


def _failures(seen: Seen, models: Sequence[str]) -> Iterator[Finding]:
    for status in seen.live:
        for model in status.models:
            counts = not models or model.id in models
            if counts and model.error and not _is_said(model.error.message, status):
                yield State.WARNING, f"{model.id} failed on {status.box}: {model.error.message}"


def _is_said(message: str, status: Status) -> bool:
    """A missing file, for one, is a problem of the box and the error of whoever tried it."""
    return any(problem.endswith(message) for problem in status.problems)


def _delays(seen: Seen, limits: Limits, models: Sequence[str]) -> Iterator[Finding]:
    for id, (seconds, what) in _longest(seen).items():
        state = limits.state(seconds)
        if state is not State.OK and (not models or id in models):
            yield state, f"{what} {id} for {seconds:.0f} s"


def _longest(seen: Seen) -> dict[str, tuple[float, str]]:
    """By model: how long its switch takes already, or somebody waits for it."""
    longest: dict[str, tuple[float, str]] = {}
    switches = [switch for status in seen.live for switch in status.switches]
    for id, seconds, what in (
        *((switch.to, switch.elapsed_s, "switching to") for switch in switches),
        *((wait.model, wait.oldest_s, "somebody waits for") for wait in seen.line),
    ):
        longest[id] = max(longest.get(id, (0.0, "")), (seconds, what))
    return longest


def _all_is_well(seen: Seen) -> str:
    boxes = ", ".join(box.name for box in seen.boxes)
    ready = sorted({m.id for status in seen.live for m in status.models if m.phase == "ready"})
    waits = ", ".join(f"{wait.waiting} for {wait.model}" for wait in seen.line)
    return f"{boxes}: ready: {', '.join(ready) or 'none'}; waiting: {waits or 'nobody'}"


def _figures(seen: Seen, limits: Limits) -> str:
    models = [model for status in seen.live for model in status.models]
    longest = max((seconds for seconds, _ in _longest(seen).values()), default=0.0)
    return " ".join(
        [
            f"boxes={len(seen.live)};;;0;{len(seen.boxes)}",
            f"waiting={sum(wait.waiting for wait in seen.line)};;;0",
            f"in_flight={sum(model.in_flight for model in models)};;;0",
            f"failed={sum(model.error is not None for model in models)};;;0",
            f"longest={longest:.3f}s;{limits.warning:g};{limits.critical:g};0",
        ]
    )
