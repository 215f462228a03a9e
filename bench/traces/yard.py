"""Our own pair for a trace: boxes with fake engines that take their time, behind one router."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.traces.play import PACE, PREFILL
from tests.harness import ENGINE, client, router, sidecar, until

SLOTS = 100  # more than anybody asks for at a time: what is measured is who is loaded


@dataclass(frozen=True, slots=True)
class Layout:
    """How many boxes, and how many of the models one of them holds at a time."""

    boxes: int
    places: int


LAYOUTS = {"one-box": Layout(1, 1), "two-boxes": Layout(2, 1), "two-fit": Layout(1, 2)}


def engine(load: float) -> list[str]:
    """The engine of every model, but for its `--port`."""
    program = [sys.executable, str(ENGINE), "--load-seconds", str(load), "--tokens", "1000"]
    return [*program, "--tokens-per-second", str(PACE), "--first-token-seconds", str(PREFILL)]


def box(models: Sequence[str], load: float, places: int, journal: Path) -> str:
    """The config of one box. Memory is declared, so that as many fit as shall fit."""
    command = [*engine(load), "--journal", str(journal), "--port", "{port}"]
    lines = "".join(
        f"  {id}: {{engine: command, vram: {900 // places}MiB, slots: {SLOTS}, "
        f"command: {json.dumps(command)}}}\n"
        for id in models
    )
    return f"memory_limit: 1GiB\nmodels:\n{lines}"


@dataclass(frozen=True, slots=True)
class Yard:
    url: str
    journal: Path

    @property
    def loads(self) -> int:
        """How often a model has become ready."""
        lines = self.journal.read_text("utf-8").splitlines() if self.journal.exists() else []
        return sum(json.loads(line)["event"] == "ready" for line in lines)


@asynccontextmanager
async def yard(
    folder: Path, layout: Layout, models: Sequence[str], load: float
) -> AsyncIterator[Yard]:
    journal = folder / "engines.journal"
    text = box(models, load, layout.places, journal)
    async with AsyncExitStack() as stack:
        urls = []
        for n in range(layout.boxes):
            (folder / f"box{n}").mkdir()
            config = f"box: box{n}\n{text}"
            server = await stack.enter_async_context(sidecar(folder / f"box{n}", config))
            urls.append(server.url)
        front = await stack.enter_async_context(router(folder, f"sidecars: {sidecars(urls)}"))
        await until_all_heard(front.url)
        yield Yard(front.url, journal)


def sidecars(urls: Sequence[str]) -> str:
    return json.dumps([{"url": url} for url in urls])


async def until_all_heard(url: str) -> None:
    async with client(url) as http:

        async def heard() -> bool:
            """the router hears every box"""
            boxes: list[dict[str, Any]] = (await http.get("/api/fleet")).json()["boxes"]
            return all(box["live"] for box in boxes)

        await until(heard)
