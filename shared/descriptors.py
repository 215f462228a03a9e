"""What a connection may ask for when descriptors run out: some are kept for looks at the program,
and some for its own files, processes and engines.

Rule 1: the kernel gives the lowest free number, so that a connection's own number says how many
descriptors are in use.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

from enum import Enum, auto

RESERVED = 64  # descriptors: half for those who look, half for the program itself
# Short answers, by which a program is watched and boxes are kept.
LOOKS = frozenset((b"/healthz", b"/readyz", b"/metrics", b"/models/status", b"/api/fleet"))
DEMAND = b"/demand/"


class Room(Enum):
    PLENTY = auto()
    SCARCE = auto()  # for looks only
    NONE = auto()


def room(number: int, most: int) -> Room:
    """For a connection with that descriptor, of so `most` that there may be."""
    reserved = min(RESERVED, most // 4)
    if number < most - reserved:
        return Room.PLENTY
    return Room.SCARCE if number < most - reserved // 2 else Room.NONE


def is_look(url: bytes) -> bool:
    return url.partition(b"?")[0] in LOOKS or url.startswith(DEMAND)
