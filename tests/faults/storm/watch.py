"""What is looked at all the time: each box's Statuses, its processes, and the steady programs'
memory and files."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from shared.sse import Decoder
from tests.faults.storm import processes
from tests.faults.storm.fleet import Box
from tests.faults.storm.history import History
from tests.faults.storm.seat import Seat
from tests.harness import client

LOOK = 1.0  # seconds
SAMPLE = 10.0
SETTLED = 3.0  # seconds after a start or a waking, from which on processes are judged


async def statuses(box: Box) -> None:
    """Until cancelled: what its sidecar sends to whoever watches, over no proxy."""
    while True:
        try:
            async with (
                client(box.seat.url) as http,
                http.stream("GET", "/models/events", timeout=None) as response,
            ):
                decoder = Decoder()
                async for chunk in response.aiter_raw():
                    for event in decoder.feed(chunk):
                        box.history.said(json.loads(event.data), time.monotonic())
        except httpx.TransportError:
            await asyncio.sleep(0.02)  # it is away


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
        at = time.monotonic() - self.began
        self.memory.append((at, processes.memory(self.seat.pid)))
        self.files.append(processes.files(self.seat.pid))

    def figures(self, since: float) -> dict[str, Any]:
        """`since`: seconds after which memory is to stay as it is."""
        then = next((size for at, size in self.memory if at >= since), self.memory[-1][1])
        last = self.memory[-1][1]
        return {
            "memory_mib_then": mib(then),
            "memory_mib_end": mib(last),
            "memory_mib_most": mib(max(size for _, size in self.memory)),
            "grown_mib": mib(last - then),
            "files_most": max(self.files),
            "files_end": self.files[-1],
        }


def mib(size: int) -> float:
    return round(size / 2**20, 2)
