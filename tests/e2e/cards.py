"""A GPU for end-to-end tests: a fake driver that every process of a test sees, through the real
NVML binding, and engines that take memory of it.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.pair import Pair
from tests.harness import ENGINE, until

GIB = 2**30
MIB_PER_GIB = 1024


@dataclass(frozen=True)
class Driver:
    """GPUs of 24 GiB each, one of them unless more are asked for."""

    library: Path
    folder: Path

    def say(self, *more: str, used: int = 0, gpus: Sequence[str] = ("GPU-aaaa",)) -> None:
        """In one step, so that nobody reads half of it. `used` of each by others, in GiB."""
        (self.folder / "processes").mkdir(exist_ok=True)
        memory = f"{24 * MIB_PER_GIB} 0 {used * MIB_PER_GIB}"
        every = [f"gpu {memory} 0 {uuid} A" for uuid in gpus]
        lines = (*every, f"processes {self.folder}/processes", *more, "")
        draft = self.folder / "draft"
        draft.write_text("\n".join(lines))
        draft.rename(self.folder / "driver")

    @property
    def env(self) -> dict[str, str]:
        return {"LD_LIBRARY_PATH": str(self.library), "FAKE_NVML": str(self.folder / "driver")}


def model(id: str, *switches: str, takes: int, more: str = "") -> str:
    """One line of `models:`: an engine that takes so many GiB of the GPU."""
    vram = ("--vram", str(takes * MIB_PER_GIB))
    command = json.dumps([sys.executable, str(ENGINE), "--port", "{port}", *vram, *switches])
    return f"  {id}: {{engine: command, command: {command}{more}}}\n"


def of(status: dict[str, Any], id: str) -> dict[str, Any]:
    return dict(next(m for m in status["models"] if m["id"] == id))


async def measured(it: Pair, id: str) -> dict[str, Any]:
    async def is_measured() -> dict[str, Any] | None:
        """the sidecar knows what the engine takes"""
        now = of(await it.status(), id)
        return now if now["measured_bytes"] is not None else None

    return await until(is_measured)


async def has_problem(it: Pair, said: str) -> None:
    async def told() -> bool:
        """the router has heard of the problem"""
        return any(said in problem for problem in await problems(it))

    await until(told)


async def has_no_problem(it: Pair) -> None:
    async def well() -> bool:
        """the router has heard that there is no problem"""
        return await problems(it) == []

    await until(well)


async def problems(it: Pair) -> list[str]:
    """As the router has heard them: its box knows them a moment before."""
    (box,) = (await it.http.get("/api/fleet")).json()["boxes"]
    return list(box["problems"])
