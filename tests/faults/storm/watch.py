"""What is looked at all the time: each box's Statuses, its processes, and the steady programs'
memory and files."""

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import httpx

from shared.sse import Decoder
from tests.faults.storm import processes
from tests.faults.storm.box_history import BoxHistory
from tests.faults.storm.fleet import Box
from tests.faults.storm.history import History
from tests.faults.storm.logs import leaks
from tests.faults.storm.seat import Seat

LOOK = 1.0  # seconds
LOOK_FOR_ROOM = 0.2
SAMPLE = 10.0
WIDE = 120.0  # seconds: one sample is a chance
TAIL = 2000  # characters of a log
SETTLED = 3.0  # seconds after a start or a waking, from which on processes are judged


async def statuses(box: Box) -> None:
    """Until cancelled: what its sidecar sends to whoever watches, over no proxy."""
    while True:
        try:
            async with (
                box.seat.client() as http,
                http.stream("GET", "/models/events", timeout=None) as response,
            ):
                response.raise_for_status()
                decoder = Decoder()
                async for chunk in response.aiter_raw():
                    for event in decoder.feed(chunk):
                        _said(box.history, event.data)
        except (httpx.TransportError, httpx.HTTPStatusError):
            await asyncio.sleep(0.02)  # it is away


def _said(history: BoxHistory, text: str) -> None:
    for secret in leaks(text.encode()):
        history.breach("a secret in a Status", f"{secret}: {text}")
    try:
        history.said(json.loads(text), time.monotonic())
    except (ValueError, LookupError, TypeError) as unlike:
        history.breach("an unreadable Status", f"{unlike!r}: {text}")


async def engines(box: Box, history: History) -> None:
    """Until cancelled: whether its processes are as its Status says."""
    pid, zombies, settled = 0, set[int](), 0.0
    while True:
        await asyncio.sleep(LOOK)
        now = time.monotonic()
        seat = box.seat
        if seat.code is not None or seat.pid != pid:
            pid, settled = seat.pid, now + SETTLED
            box.history.away()
        elif seat.frozen:
            settled = now + SETTLED
        if now < settled:
            zombies.clear()
            box.history.unsettled()
            continue
        box.history.living(box.engines.living(), now)
        before, zombies = zombies, set(processes.zombies(seat.pid))
        for zombie in zombies & before:
            history.breach("a zombie", f"box {box.history.name}", now, str(zombie))


async def room(box: Box) -> None:
    """Until cancelled, also while its sidecar is away: whether all that runs has room."""
    while True:
        box.history.room(box.engines.at_once())
        await asyncio.sleep(LOOK_FOR_ROOM)


async def falls(seats: Mapping[str, Seat], history: History) -> None:
    """Until cancelled: programs that end although nobody wanted them to."""
    while True:
        for name, seat in seats.items():
            if seat.has_fallen:
                said = f"{seat.pid}, with {seat.code}: {seat.log()[-TAIL:]}"
                history.breach("a program fell by itself", name, time.monotonic(), said)
        await asyncio.sleep(LOOK)


@dataclass
class Samples:
    """Of one steady program."""

    seat: Seat
    began: float = field(default_factory=time.monotonic)
    memory: list[tuple[float, int]] = field(default_factory=list)  # seconds, bytes
    files: list[int] = field(default_factory=list)

    async def run(self) -> None:
        while True:
            self.take()
            await asyncio.sleep(SAMPLE)

    def take(self) -> None:
        if self.seat.code is not None:
            return
        with suppress(FileNotFoundError, ProcessLookupError, KeyError):  # it ends this very moment
            size = processes.memory(self.seat.pid)
            self.files.append(processes.files(self.seat.pid))
            self.memory.append((time.monotonic() - self.began, size))

    def figures(self, since: float, until: float) -> dict[str, Any]:
        """`since`: seconds after which memory is to stay as it is; `until`: the end of the load."""
        if not self.memory:
            return {}
        wide = min(WIDE, (until - since) / 2)
        then, last = self._median(since, wide), self._median(until - wide, wide)
        return {
            "memory_mib_then": mib(then),
            "memory_mib_last": mib(last),
            "memory_mib_most": mib(max(size for _, size in self.memory)),
            "grown_mib": mib(last - then),
            "files_most": max(self.files),
            "files_end": self.files[-1],
        }

    def _median(self, since: float, wide: float) -> float:
        there = [size for at, size in self.memory if since <= at <= since + wide]
        return median(there or [self.memory[-1][1]])


def mib(size: float) -> float:
    return round(size / 2**20, 2)
