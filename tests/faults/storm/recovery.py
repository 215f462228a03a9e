"""After the faults: whether every model can be had again, at each router and at each box.

Rule: nothing is broken on purpose any more, so each answer is to be whole. Only a model that rests
after starts that failed may say so, for a while.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.faults.storm.clients import CHAT, NONCE, expected, hear
from tests.faults.storm.comeback import read
from tests.faults.storm.fleet import KINDS, Box, Fleet
from tests.faults.storm.history import Asked, History
from tests.faults.storm.quiet import NO_ANSWER
from tests.faults.storm.seat import Seat
from tests.harness import until

WITHIN = 30.0  # seconds: the longest rest that a storm's few failures in a row can cause
TOKENS = 5

Path = Callable[[str], str]  # by model


@dataclass
class Recovery:
    fleet: Fleet
    history: History
    asked: int = 0
    rested: dict[str, str] = field(default_factory=dict)

    async def run(self) -> None:
        """Boxes first: to ask one itself makes it load nothing, and a router might unload it."""
        async with asyncio.TaskGroup() as boxes:
            for name, box in self.fleet.boxes.items():
                boxes.create_task(self._box(name, box))
        async with asyncio.TaskGroup() as routers:
            for name, seat in self.fleet.routers.items():
                routers.create_task(self._each(f"router {name}", seat, lambda model: CHAT))

    async def _box(self, name: str, box: Box) -> None:
        await self._each(f"box {name}", box.seat, lambda model: f"/engines/{model}{CHAT}", box)

    async def _each(self, where: str, seat: Seat, path: Path, box: Box | None = None) -> None:
        for stream in (True, False):
            for model in KINDS:
                asked = Asked(f"{NONCE}-{where}-{stream}", model, where, TOKENS, stream)
                await self._ask(asked, seat, path(model), box)

    async def _ask(self, asked: Asked, seat: Seat, path: str, box: Box | None) -> None:
        self.asked += 1
        deadline, said = time.monotonic() + WITHIN, "nothing"
        while time.monotonic() < deadline:
            try:
                if box is not None:
                    await _loaded(box, asked.model)
                said = await _heard(asked, seat, path)
            except (*NO_ANSWER, AssertionError) as failure:
                said = repr(failure)
            if "load_failed" not in said:
                break
            self.rested[f"{asked.front}: {asked.model}"] = said
            await asyncio.sleep(0.5)
        if said:
            self.history.breach(
                "not served after all", asked.front, time.monotonic(), f"{asked.model}: {said}"
            )


async def _heard(asked: Asked, seat: Seat, path: str) -> str:
    """What is wrong with the answer."""
    seen: dict[str, Any] = {}
    async with seat.client(timeout=WITHIN) as http:
        await hear(http, path, asked, seen)
    whole = seen.get("text") == expected(asked) and (seen.get("dones") or not asked.stream)
    return "" if whole and not seen.get("errors") and not seen.get("more") else str(seen)


async def _loaded(box: Box, model: str) -> None:
    await box.load(model)

    async def ready() -> bool:
        """the box says that it is ready"""
        async with box.seat.client() as http:
            said = read(await http.get("/models/status"))[model]
        assert not (said["phase"] == "idle" and said["error"]), f"load_failed: {said['error']}"
        return bool(said["phase"] == "ready")

    await until(ready, WITHIN)
