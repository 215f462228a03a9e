"""How soon those who wait hear of a failed load."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from bench.switch import summary
from tests.e2e.pair import Pair, ask, chat, fake, pair

ROUNDS = 20


async def figures(folder: Path) -> dict[str, object]:
    (folder / "faults").mkdir()
    crashes = folder / "crashes.journal"
    loads = ["--load-seconds", "0.2", "--crash-at", "load", "--journal", str(crashes)]
    # One that has failed before may have to rest: each is asked for once.
    models = [fake(f"crash-{n}", *loads) for n in range(ROUNDS)]
    async with pair(folder / "faults", "".join(models)) as both:
        told = [await failed_load(both, f"crash-{n}", crashes) for n in range(ROUNDS)]
    return {"failed_load_heard_ms": summary(told)}


async def failed_load(both: Pair, model: str, notes: Path) -> float:
    """Seconds from the engine's exit to the end of the waiting client's stream."""
    told = await ask(both.http, chat(model))
    assert told.error is not None
    return time.monotonic() - events(notes, "exit")[-1]["at"]


def events(notes: Path, event: str) -> list[dict[str, Any]]:
    lines = notes.read_text().splitlines() if notes.exists() else []
    return [entry for line in lines if (entry := json.loads(line))["event"] == event]
