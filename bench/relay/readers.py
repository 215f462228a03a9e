"""What the load generator makes of a body: whether it is whole, and what it tells of time.

Rule: no I/O and no clock. A relay may cut a body anywhere, and put its own events between ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from bench.relay.engine import ANSWER, DIGITS, DONE, NEEDLE

KEPT = len(NEEDLE) - 1  # bytes that can be the beginning of a needle, and never a whole one


@dataclass(slots=True)
class Window:
    """What is counted: from `begins` to `ends`, in nanoseconds."""

    begins: int
    ends: int
    chunks: int = 0
    lags: list[int] = field(default_factory=list)  # from the engine to here

    def holds(self, at: int) -> bool:
        return self.begins <= at < self.ends


class Reader(Protocol):
    """Of the bodies of one connection, one after the other."""

    def feed(self, data: bytes, at: int) -> None: ...

    def end(self) -> str:
        """What was wrong with the body; nothing, if it was whole. The next one begins."""


class Whole:
    def __init__(self) -> None:
        self._body = b""

    def feed(self, data: bytes, at: int) -> None:
        self._body += data

    def end(self) -> str:
        body, self._body = self._body, b""
        return "" if body == ANSWER else f"not the engine's answer: {body[:200]!r}"


class Stream:
    """What both kinds of streams share: how many chunks came, and the end."""

    def __init__(self, expected: int, window: Window) -> None:
        self._expected = expected
        self._window = window
        self._seen = 0
        self._tail = b""  # of what was read: a needle may be cut

    def end(self) -> str:
        seen, tail, self._seen, self._tail = self._seen, self._tail, 0, b""
        if seen != self._expected:
            return f"{seen} chunks of {self._expected}"
        return "" if tail == DONE[-KEPT:] else f"the end is missing after {tail!r}"


class Chunks(Stream):
    """Counts them, where they come as fast as they can."""

    def feed(self, data: bytes, at: int) -> None:
        data = self._tail + data
        self._tail = data[-KEPT:]
        found = data.count(NEEDLE)
        self._seen += found
        if self._window.holds(at):
            self._window.chunks += found


class TimedChunks(Stream):
    """Reads when each was sent, where they come at a rate."""

    def feed(self, data: bytes, at: int) -> None:
        data = self._tail + data
        rest = -KEPT
        found = data.find(NEEDLE)
        while found >= 0:
            stamp = found + len(NEEDLE)
            if stamp + DIGITS > len(data):
                rest = found
                break
            self._take(int(data[stamp : stamp + DIGITS]), at)
            found = data.find(NEEDLE, stamp)
        self._tail = data[rest:]

    def _take(self, sent: int, at: int) -> None:
        self._seen += 1
        if self._window.holds(sent):
            self._window.chunks += 1
            self._window.lags.append(at - sent)
