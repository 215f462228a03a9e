"""Lets a connection in while there are descriptors: `descriptors.py` says how far."""

from __future__ import annotations

import asyncio
import resource
from typing import Final

from shared import descriptors
from shared.descriptors import Room
from shared.errors import Unavailable
from shared.exchange import last_word

# Seconds: for a head where room is scarce, and after which it makes sense to try again.
BRIEF = 1.0

CROWD: Final = Unavailable(
    "Too many connections are open here.", code="queue_full", retry_after=BRIEF
)


def room_for(transport: asyncio.Transport) -> Room:
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return descriptors.room(transport.get_extra_info("socket").fileno(), most)


def turn_away(transport: asyncio.Transport, headers: list[tuple[bytes, bytes]]) -> None:
    """At once: to wait until it is heard would take what there is not."""
    transport.write(last_word(CROWD, headers))
    transport.close()


def is_refused(room: Room, url: bytes) -> bool:
    return room is not Room.PLENTY and not descriptors.is_look(url)
