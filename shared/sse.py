"""Server-sent events: the codec on bytes, and nothing else.

Lines end in CR, LF or CRLF only. `str.splitlines` and `httpx.aiter_lines` also split on U+2028,
U+0085 and others, which occur inside what models write.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_EVENT = 16 * 1024 * 1024  # bytes of one event; a longer one is an error, not a memory leak


class EventTooLarge(Exception):
    """An event grew beyond the limit before its end."""


@dataclass(frozen=True, slots=True)
class Event:
    data: str
    event: str = "message"
    id: str | None = None


def encode(event: Event) -> bytes:
    """One event in is one event out: a line break in a name or an id is refused."""
    for name in (event.event, event.id or ""):
        if "\n" in name or "\r" in name or "\0" in name:
            raise ValueError(f"a line break in an event's name or id: {name!r}")
    lines = [] if event.event == "message" else [f"event: {event.event}"]
    if event.id is not None:
        lines.append(f"id: {event.id}")
    text = event.data
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines += [f"data: {line}" for line in text.split("\n")]
    return ("\n".join(lines) + "\n\n").encode()


def comment(text: str) -> bytes:
    """A heartbeat: one line, without a blank line of its own.

    Once a stream has carried an `id:`, openai-python takes the blank line after a comment for an
    empty event and raises.
    """
    return (": " + " ".join(text.split()) + "\n").encode()


ENDS = (b"\n\n", b"\n\r\n", b"\r\r")  # of an event, whatever ends its lines


class Gauge:
    """How long the newest event is, of a stream whose bytes are passed on as they come, in pieces
    that are shorter than the limit. Raises EventTooLarge."""

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._size = 0
        self._last = b""  # an end may be cut anywhere

    def feed(self, chunk: bytes) -> None:
        if self._size + len(chunk) <= self._limit and chunk.endswith(ENDS):
            self._size, self._last = 0, b""
            return
        seen, before = self._last + chunk, self._size - len(self._last)
        ends = [seen.find(end) + len(end) for end in ENDS if end in seen]
        if before + min(ends, default=len(seen)) > self._limit:
            raise EventTooLarge(f"an event of more than {self._limit} bytes")
        newest = max((seen.rfind(end) + len(end) for end in ENDS if end in seen), default=0)
        self._size = len(seen) - newest if newest else before + len(seen)
        self._last = seen[max(newest, len(seen) - 3) :]


class Decoder:
    """Bytes in, cut anywhere; complete events out."""

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._size = 0
        self._line = bytearray()
        self._after_cr = False
        self._data: list[str] = []
        self._event = ""
        self._id: str | None = None

    def feed(self, chunk: bytes) -> list[Event]:
        """Take bytes off the wire; return the events that they complete."""
        events = []
        for piece in chunk.splitlines(keepends=True):  # bytes: splits on CR, LF and CRLF only
            if self._after_cr and piece == b"\n":
                self._after_cr = False
                continue
            self._after_cr = piece.endswith(b"\r")
            self._take(piece)
            if piece.endswith((b"\r", b"\n")) and (event := self._end_line()) is not None:
                events.append(event)
        return events

    def _take(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            raise EventTooLarge(f"an event of more than {self._limit} bytes")
        self._line += piece

    def _end_line(self) -> Event | None:
        line = self._line.rstrip(b"\r\n").decode("utf-8", "replace")
        if line.startswith(":"):
            self._size -= len(self._line)  # a stream of heartbeats is not one long event
        self._line.clear()
        if line:
            self._field(line)
            return None
        return self._dispatch()

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value

    def _dispatch(self) -> Event | None:
        event = None
        if self._data:
            event = Event("\n".join(self._data), self._event or "message", self._id)
        self._data, self._event, self._size = [], "", 0
        return event
