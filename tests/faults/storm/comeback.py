"""A sidecar that was killed and comes back: when its Status is right, and which engines it took
over."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import httpx

from tests.faults.storm.box_history import right
from tests.faults.storm.fleet import Box
from tests.faults.storm.processes import frozen
from tests.harness import client

LIMIT = 2.0  # seconds until its Status is right
GIVEN_UP = 10.0
POLL = 0.01


@dataclass
class Comebacks:
    """The figures of many. `busy`: two cores have all the load of a storm to carry, and the time
    that an interpreter takes to start is no figure of ours; it counts from the first connection."""

    busy: bool = False
    harmed: set[int] = field(default_factory=set)  # engines that another fault fell upon
    listens: list[float] = field(default_factory=list)  # seconds from its start
    seconds: list[float] = field(default_factory=list)  # until a Status is right
    adopted: int = 0
    to_adopt: int = 0
    late: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        return {
            "times": len(self.seconds),
            "listens_s": middle_and_worst(self.listens),
            "right_s": middle_and_worst(self.seconds),
            "adopted": f"{self.adopted} of {self.to_adopt}",
            "late": self.late,
            "not_adopted": self.lost,
        }


def to_adopt(box: Box) -> dict[str, int]:
    """The engines that the sidecar which was just killed has left ready: model and pid. None that
    was told to go, that is frozen, or of whose readiness nothing had been written down."""
    try:
        page = json.loads((box.seat.folder / "state" / "launches.json").read_bytes())
    except FileNotFoundError:
        return {}
    written = {id for id, launched in page["launches"].items() if launched["serves"]}
    return {
        model: pid
        for model, pids in box.engines.living().items()
        for pid in pids
        if model in written and not frozen(pid) and box.engines.noted(model, pid) & {"ready"}
        if not box.engines.noted(model, pid) & {"sigterm", "line"}
    }


async def come_back(box: Box, expected: Mapping[str, int], figures: Comebacks, why: str) -> None:
    """Start the sidecar again, and see until its Status is right."""
    began = time.monotonic()
    await box.seat.start()
    listened, models = await _until_right(box, began)
    took = time.monotonic() - (listened if figures.busy else began)
    figures.listens.append(listened - began)
    figures.seconds.append(took)
    if took > LIMIT or models is None:
        figures.late.append(f"{why}: {took:.2f} s")
        return
    living = box.engines.living()
    for model, pid in expected.items():
        if pid in figures.harmed:
            continue
        figures.to_adopt += 1
        if models[model]["phase"] == "ready" and living[model] == [pid]:
            figures.adopted += 1
        else:
            said = models[model]
            figures.lost.append(f"{why}: {model} {pid}: {said['phase']} {said['error']}")


async def _until_right(box: Box, began: float) -> tuple[float, dict[str, Any] | None]:
    """When it last took no connection, and what it said when that was right, if it ever was."""
    listened = began
    async with client(box.seat.url, timeout=LIMIT) as http:
        while time.monotonic() - began < GIVEN_UP:
            try:
                status = (await http.get("/models/status")).json()
            except httpx.TransportError:  # nobody is there yet, or it was killed once more
                listened = time.monotonic()
                await asyncio.sleep(POLL)
                continue
            models = {model["id"]: model for model in status["models"]}
            if right(models, box.engines.living()):
                return listened, models
            await asyncio.sleep(POLL)
    return listened, None


def middle_and_worst(seconds: list[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    return {"median": round(median(seconds), 3), "worst": round(max(seconds), 3)}
