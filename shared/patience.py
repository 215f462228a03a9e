"""How long a client is waited for, and how much of it that is of no use.

Rule: no I/O and no clock; times are seconds of whatever clock the caller has.
"""

from __future__ import annotations

from dataclasses import dataclass

BODY_RATE = 64 * 1024  # bytes: 32 MiB may take 9.5 minutes, and who sends nothing has 60 s
FRAMING = 64 * 1024  # bytes between two pieces of a body in chunks, or behind the last one


@dataclass(frozen=True, slots=True)
class Limits:
    """In seconds."""

    head: float = 10.0  # from its first byte to its end; of a new connection, also for that byte
    body: float = 60.0  # from the end of the head, and 1 s more for each BODY_RATE that has come
    # Longer than any client of ours keeps an idle connection, so that it is the client that closes:
    # a request sent on a connection that the server has just closed would be lost.
    idle: float = 75.0
    stall: float = 60.0  # with an answer for it, of which it takes nothing
    linger: float = 5.0  # after the last word, for a client that is still sending


DEFAULT = Limits()


def body_until(begun: float, came: int, limits: Limits) -> float:
    """When a body is overdue of which `came` bytes have come since `begun`."""
    return begun + limits.body + came / BODY_RATE


class Backlog:
    """What a client has not taken yet, from one look to the next."""

    __slots__ = ("_moved", "_size")

    def __init__(self, now: float, size: int) -> None:
        self._moved = now
        self._size = size

    def is_stalled(self, now: float, size: int, limits: Limits) -> bool:
        if size < self._size:
            self._moved = now
        self._size = size
        return now - self._moved >= limits.stall
