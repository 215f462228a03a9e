"""A sidecar that was killed and comes back: when its Status is right, and which engines it took
over."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from statistics import median
from typing import Any

import httpx

from tests.faults.storm.box_history import right
from tests.faults.storm.fleet import Box
from tests.faults.storm.processes import frozen

LIMIT = 2.0  # seconds until its Status is right
GIVEN_UP = 10.0
POLL = 0.01
GRACE = 0.05  # seconds in which a sidecar writes down what it has just said
MANY = 10  # comebacks, before each of which hardly nothing was ready
MAY_GO = 0.1  # of those to take over, at most: the rest must not hide behind the excuse
UNREADABLE = (httpx.TransportError, ValueError, KeyError, TypeError)

Models = dict[str, Any]


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
    let_go: int = 0  # not taken over, as it was written down that they were to go
    late: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def judge(self, which: str, said: Mapping[str, Any], *, lives: bool, going: bool) -> bool:
        """An engine that was left ready, by what its next sidecar says of it: is it taken over?"""
        self.to_adopt += 1
        taken_over = lives and said["phase"] in ("ready", "switching")
        if taken_over:
            self.adopted += 1
        elif going:
            self.let_go += 1
        else:
            self.lost.append(f"{which}: {said['phase']} {said['error']}")
        return taken_over

    def wrong(self) -> list[str]:
        found = [*self.late, *self.lost]
        if len(self.seconds) >= MANY and not self.to_adopt:
            found.append("no engine was ever left ready")
        if self.let_go > MAY_GO * self.to_adopt + 1:
            found.append(f"{self.let_go} of {self.to_adopt} were let go, just before the end")
        return found

    def figures(self) -> dict[str, Any]:
        return {
            "times": len(self.seconds),
            "listens_s": middle_and_worst(self.listens),
            "right_s": middle_and_worst(self.seconds),
            "adopted": f"{self.adopted} of {self.to_adopt}",
            "let_go": self.let_go,
            "late": self.late,
            "not_adopted": self.lost,
        }


def to_adopt(box: Box, killed: float) -> dict[str, int]:
    """The engines that a sidecar which was killed then has left ready: model and pid. None that
    was told to go until then, that is frozen, or whose readiness it had no time to write down."""
    return {
        model: pid
        for model, since in box.history.ready.items()
        for pid in box.engines.living()[model].engines
        if since < killed - GRACE and not frozen(pid)
        if _serves(box.engines.noted(model, pid), since)
    }


def _serves(noted: Mapping[str, float], since: float) -> bool:
    """It is the one that was said to be ready since then, and nobody has told it to go."""
    return noted.get("ready", inf) < since and not noted.keys() & {"sigterm", "line"}


def let_go(box: Box) -> set[str]:
    """Models of which is written down that they are to go: a sidecar does so before it tells
    their engines, and may be killed between the two."""
    try:
        page = json.loads((box.seat.folder / "state" / "launches.json").read_bytes())
    except FileNotFoundError:
        return set()
    return {id for id, launched in page["launches"].items() if not launched["serves"]}


async def come_back(
    box: Box, expected: Mapping[str, int], figures: Comebacks, why: str
) -> list[str]:
    """Start the sidecar again, and see until its Status is right. The models it took over."""
    going = let_go(box)
    began = time.monotonic()
    await box.seat.start()
    listened, models = await _until_right(box, began)
    took = time.monotonic() - (listened if figures.busy else began)
    figures.listens.append(listened - began)
    figures.seconds.append(took)
    if took > LIMIT or models is None:
        figures.late.append(f"{why}: {took:.2f} s")
        return []
    living, adopted = box.engines.living(), []
    for model, pid in expected.items():
        lives = list(living[model].engines) == [pid]
        if pid in figures.harmed:
            continue
        if figures.judge(f"{why}: {model} {pid}", models[model], lives=lives, going=model in going):
            adopted.append(model)
    return adopted


async def _until_right(box: Box, began: float) -> tuple[float, Models | None]:
    """When it last took no connection, and what it said when that was right, if it ever was."""
    listened = began
    async with box.seat.client(timeout=LIMIT) as http:
        while time.monotonic() - began < GIVEN_UP:
            try:
                models = read(await http.get("/models/status"))
                if right(models, box.engines.living()):
                    return listened, models
            except httpx.ConnectError:
                listened = time.monotonic()
            except UNREADABLE:
                pass  # it listens, and is not right
            await asyncio.sleep(POLL)
    return listened, None


def read(answer: httpx.Response) -> Models:
    return {model["id"]: model for model in answer.json()["models"]}


def middle_and_worst(seconds: list[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    return {"median": round(median(seconds), 3), "worst": round(max(seconds), 3)}
