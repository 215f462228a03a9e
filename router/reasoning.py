"""The readable lines of a wait, for clients that show a model's reasoning.

Rule 1: each change is a line; while nothing changes, the seconds that pass are lines, less and less
often. A wait of ten minutes stays readable.
Rule 2: a line is whole when it is said: some clients show none before its end.
Rule 3: this file does no I/O, reads no clock and never awaits.

    demo-big on box1: stopping current model (demo-small)
    demo-big on box1: starting new model, about 5 s left
    demo-big on box1: waiting for readiness, 12 %
    … 2 s, 38 %, about 3 s left
    … 4 s, 81 %, about 1 s left
    demo-big on box1 is ready after 4.9 s
"""

from __future__ import annotations

import math
import zlib

from router.remarks import REMARKS
from router.voice import Stream, Told, is_served
from shared.status import LEAVING

SAID_EVERY = 2.0  # seconds at least
THINS_OUT = 0.2  # of the time that has passed: after a minute every 12 s
REMARK_EVERY = 8.0  # seconds: most loads end without one


class Narrator:
    """Says each thing once. `says` returns the text to show next, often none."""

    def __init__(self, stream: Stream) -> None:
        self._remarks = stream.remarks
        self._remark = zlib.crc32(stream.id.encode())  # not the same one first for everybody
        self._remarked = 0.0  # seconds of the wait, as all below
        self._said = 0.0
        self._subject: object = None  # of the last line; None: none was said, or the wait has ended

    def says(self, told: Told) -> str:
        if is_served(told):
            return self._closes(told)
        subject = (told["phase"], told["step"], told["from"], told["box"])
        if subject != self._subject:
            return self._changes(told, subject)
        return self._passes(told)

    def _changes(self, told: Told, subject: object) -> str:
        self._subject, self._said = subject, told["elapsed_s"]
        doing = told["step"] or told["phase"]
        return f"{_who(told)}: {doing}{_leaving(told)}{_facts(told)}\n"

    def _passes(self, told: Told) -> str:
        elapsed = told["elapsed_s"]
        if elapsed - self._said < max(SAID_EVERY, THINS_OUT * elapsed):
            return ""
        self._said = elapsed
        return f"… {elapsed:.0f} s{_facts(told)}{self._remarks_on(elapsed)}\n"

    def _remarks_on(self, elapsed: float) -> str:
        if not self._remarks or elapsed - self._remarked < REMARK_EVERY:
            return ""
        self._remarked = elapsed
        self._remark += 1
        return f" ({REMARKS[self._remark % len(REMARKS)]})"

    def _closes(self, told: Told) -> str:
        """Only for those who have read of a wait."""
        if self._subject is None:
            return ""
        self._subject = None
        return f"{_who(told)} is ready after {told['waited_ms'] / 1000:.1f} s\n"


def _who(told: Told) -> str:
    return f"{told['model']} on {told['box']}" if told["box"] else str(told["model"])


def _leaving(told: Told) -> str:
    leave = told["phase"] in LEAVING and told["from"]
    return f" ({', '.join(leave)})" if leave else ""


def _facts(told: Told) -> str:
    facts = []
    if told["position"] > 1:
        facts.append(f"place {told['position']}")
    if told["progress"] is not None:
        facts.append(f"{told['progress'] * 100:.0f} %")
    if told["eta_s"] is not None:
        facts.append(f"about {math.ceil(told['eta_s'])} s left")
    return "".join(f", {fact}" for fact in facts)
