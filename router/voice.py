"""A voice: one client is told, in one dialect, from the first frame of its stream to its end.

Rule 1: a voice holds what its stream was told and decides how the next thing is said; what is true
is decided elsewhere.
Rule 2: this file does no I/O, reads no clock and never awaits.

`told` is a `model_switching` object, `at` the Unix time at which something is said.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from shared.errors import SwapyardError

Format = Literal["chat", "text", "other"]
Told = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stream:
    """What the frames of one stream have in common. `created` in Unix seconds."""

    id: str
    model: str  # as the client named it
    created: int
    format: Format
    remarks: bool = False  # light lines for those who read about a long load


class Voice:
    """This one says nothing and passes on the engine's bytes: the dialect `off`."""

    talks: ClassVar[bool] = False  # whether it says anything before the answer
    needs_usage: ClassVar[bool] = False  # whether the engine must be asked to count tokens

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def opens(self, at: float) -> bytes:
        """Said at once, whether the request will wait or not."""
        return b""

    def tells(self, told: Told, at: float) -> bytes:
        """Said while the request waits, and once more when its answer begins."""
        return b""

    def answers(self, chunk: bytes, at: float) -> Iterable[bytes]:
        """What becomes of the engine's bytes, piece by piece. May raise EngineFailed after any."""
        return (chunk,)

    def ends(self, at: float) -> bytes:
        """Said when the engine has said all. Raises EngineFailed if that was not all."""
        return b""

    def fails(self, error: SwapyardError, at: float) -> bytes:
        """The end of a stream that has begun and will not be whole."""
        return error.event()


def chunk(stream: Stream, delta: dict[str, Any]) -> dict[str, Any]:
    """A complete chunk of the stream's format with one choice. A text completion has no `delta`:
    what would stand there stands beside its empty text."""
    if stream.format == "text":
        kind, choice = "text_completion", {"index": 0, "text": "", **delta, "finish_reason": None}
    else:
        kind, choice = "chat.completion.chunk", {"index": 0, "delta": delta, "finish_reason": None}
    return {
        "id": stream.id,
        "object": kind,
        "created": stream.created,
        "model": stream.model,
        "choices": [choice],
    }


def is_served(told: Told) -> bool:
    """Whether the request's turn has come: it waits for its engine's first byte only."""
    return "reason" in told
