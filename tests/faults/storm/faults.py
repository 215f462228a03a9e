"""Carries out what the schedule says: each kind of fault is one method.

What a fault falls on is its alone for as long as it lasts; the next one there waits its turn.
"""

import asyncio
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.chaos import Chaos
from tests.faults import points
from tests.faults.storm import processes
from tests.faults.storm.clients import Client
from tests.faults.storm.comeback import Comebacks, come_back, to_adopt
from tests.faults.storm.fleet import Box, Fleet
from tests.faults.storm.history import History, Trouble
from tests.faults.storm.schedule import Fault, picked
from tests.faults.storm.seat import Seat
from tests.harness import until

TO_DIE = 10.0  # seconds in which a sidecar comes to its fault point, or is killed as it is
FAREWELL = 8.0  # seconds for a program that was told to end: 2 s of patience, and its engines' ends
PIECES = 11  # bytes


@dataclass
class Faults:
    fleet: Fleet
    clients: list[Client]
    history: History
    done: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)  # nothing was there to fall on
    comebacks: Comebacks = field(default_factory=lambda: Comebacks(busy=True))
    under_way: dict[int, str] = field(default_factory=dict)
    _turns: defaultdict[str, asyncio.Lock] = field(
        default_factory=lambda: defaultdict(asyncio.Lock)
    )

    async def run(self, number: int, fault: Fault) -> None:
        by_kind: Callable[[Fault], Coroutine[Any, Any, bool]] = getattr(
            self, "_" + fault.kind.replace("-", "_")
        )
        self.under_way[number] = str(fault)
        shared = fault.kind.startswith(("engine", "child", "leave"))
        try:
            async with self._turns[f"{number}" if shared else fault.target]:
                self.history.fault(f"#{number} {fault}", time.monotonic())
                there = await by_kind(fault)
        except AssertionError as failure:
            self.history.breach("stuck", str(fault), time.monotonic(), str(failure))
            there = True
        finally:
            del self.under_way[number]
        (self.done if there else self.missed)[fault.kind] += 1

    # Engines.

    async def _engine_kill(self, fault: Fault) -> bool:
        return self._signal(self._leaders(fault), fault, signal.SIGKILL) is not None

    async def _engine_term(self, fault: Fault) -> bool:
        return self._signal(self._leaders(fault), fault, signal.SIGTERM) is not None

    async def _engine_stop(self, fault: Fault) -> bool:
        pid = self._signal(self._leaders(fault), fault, signal.SIGSTOP)
        if pid is None:
            return False
        await asyncio.sleep(fault.seconds)
        processes.send(pid, signal.SIGCONT)
        return True

    async def _child_kill(self, fault: Fault) -> bool:
        pids = [child.pid for pid in self._leaders(fault) for child in processes.children(pid)]
        return self._signal(pids, fault, signal.SIGKILL) is not None

    def _leaders(self, fault: Fault) -> list[int]:
        living = self.fleet.boxes[fault.target].engines.living()
        return [pid for model in sorted(living) for pid in living[model].engines]

    def _signal(self, pids: list[int], fault: Fault, number: signal.Signals) -> int | None:
        if not pids:
            return None
        pid = picked(fault.pick, pids)
        self.comebacks.harmed.add(pid)
        processes.send(pid, number)
        return pid

    # The sidecar.

    async def _sidecar_kill(self, fault: Fault) -> bool:
        box = self.fleet.boxes[fault.target]
        await box.seat.killed()
        await self._return(box, str(fault))
        return True

    async def _sidecar_point(self, fault: Fault) -> bool:
        """Killed, and killed again where it then comes to that point of its life."""
        box = self.fleet.boxes[fault.target]
        point = picked(fault.pick, list(points.POINTS))
        nth = 1 + int(fault.pick * 1000) % 3
        await box.seat.killed()
        await box.seat.start(f"{point}:{nth}")
        await self._died(box.seat)
        await self._return(box, f"{fault} at {point}:{nth}")
        return True

    async def _died(self, seat: Seat) -> None:
        """At its fault point; one that does not come to it is killed anywhere."""
        try:
            await until(lambda: seat.code is not None, TO_DIE)
        except AssertionError:
            await seat.killed()

    async def _sidecar_term(self, fault: Fault) -> bool:
        box = self.fleet.boxes[fault.target]
        await self._told_to_end(box.seat)
        left = {model: pids for model, pids in box.engines.living().items() if any(pids)}
        if left:
            self.history.breach("engines outlive a farewell", "", time.monotonic(), str(left))
        await self._return(box, str(fault))
        return True

    async def _sidecar_stop(self, fault: Fault) -> bool:
        return await self._freeze(self.fleet.boxes[fault.target].seat, fault.seconds)

    async def _return(self, box: Box, why: str) -> None:
        expected = to_adopt(box, time.monotonic())
        await come_back(box, expected, self.comebacks, why)
        await box.seat.up()

    # The router.

    async def _router_kill(self, fault: Fault) -> bool:
        seat = self.fleet.routers[fault.target]
        with self._trouble(fault.target, "broken"):
            await seat.killed()
            await seat.start()
            await seat.up()
        return True

    async def _router_term(self, fault: Fault) -> bool:
        seat = self.fleet.routers[fault.target]
        with self._trouble(fault.target, "closing"):
            await self._told_to_end(seat)
            await seat.start()
            await seat.up()
        return True

    async def _router_stop(self, fault: Fault) -> bool:
        return await self._freeze(self.fleet.routers[fault.target], fault.seconds)

    async def _told_to_end(self, seat: Seat) -> None:
        code = await seat.ended(FAREWELL)
        if code != 0:
            self.history.breach("a farewell that failed", "", time.monotonic(), f"{code}")

    async def _freeze(self, seat: Seat, seconds: float) -> bool:
        processes.send(seat.pid, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        processes.send(seat.pid, signal.SIGCONT)
        return True

    # Clients, and the ways between all.

    async def _leave(self, fault: Fault) -> bool:
        first = int(fault.pick * len(self.clients))
        asking = [it for it in self.clients[first:] + self.clients[:first] if it.asks]
        leaving = asking[: 1 + int(fault.pick * 4)]
        for client in leaving:
            client.leave()
        return bool(leaving)

    async def _reset(self, fault: Fault) -> bool:
        with self._way(fault, "broken") as link:
            link.reset()
        return True

    async def _half_close(self, fault: Fault) -> bool:
        with self._way(fault, "broken") as link:
            link.half_close()
        return True

    async def _part(self, fault: Fault) -> bool:
        return await self._parted(fault, inward=True, outward=True)

    async def _part_inward(self, fault: Fault) -> bool:
        return await self._parted(fault, inward=True, outward=False)

    async def _part_outward(self, fault: Fault) -> bool:
        return await self._parted(fault, inward=False, outward=True)

    async def _parted(self, fault: Fault, *, inward: bool, outward: bool) -> bool:
        """Half of them outlive the connections that they part; else each is owed its end."""
        link = self.fleet.links[fault.target]
        link.part(inward=inward, outward=outward)
        await asyncio.sleep(fault.seconds)
        if fault.pick < 0.5:
            with self._way(fault, "broken"):
                link.reset()
        link.heal()
        if front := _front(fault):
            self.history.healed(front, time.monotonic())
        return True

    async def _refuse(self, fault: Fault) -> bool:
        with self._way(fault, "refusing") as link:
            link.refuses = True
            await asyncio.sleep(fault.seconds)
            link.heal()
        return True

    async def _down(self, fault: Fault) -> bool:
        with self._way(fault, "broken") as link:
            async with link.down():
                await asyncio.sleep(fault.seconds)
        return True

    async def _slices(self, fault: Fault) -> bool:
        link = self.fleet.links[fault.target]
        link.pieces = PIECES
        await asyncio.sleep(fault.seconds)
        link.pieces = 0
        return True

    async def _late(self, fault: Fault) -> bool:
        link = self.fleet.links[fault.target]
        link.latency, link.jitter = 0.01, 0.05
        await asyncio.sleep(fault.seconds)
        link.latency = link.jitter = 0.0
        return True

    @contextmanager
    def _way(self, fault: Fault, trouble: Trouble) -> Iterator[Chaos]:
        """Clients behind a way that is broken may hear nothing; behind one to a box they hear."""
        with self._trouble(_front(fault), trouble):
            yield self.fleet.links[fault.target]

    @contextmanager
    def _trouble(self, front: str, trouble: Trouble) -> Iterator[None]:
        if not front:
            yield
            return
        self.history.troubled(front, trouble)
        try:
            yield
        finally:
            self.history.well(front, trouble, time.monotonic())


def _front(fault: Fault) -> str:
    """The router that clients reach over that way; "" for one to a box."""
    link = fault.target
    return link.removeprefix("clients-") if link.startswith("clients-") else ""
