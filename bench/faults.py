"""How soon those concerned hear of a failed load, and an engine of a client that has left."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from bench.switch import summary
from tests.e2e.pair import Pair, ask, chat, fake, pair
from tests.harness import frames, until

ROUNDS = 20


async def figures(folder: Path) -> dict[str, object]:
    (folder / "faults").mkdir()
    crashes, slow = folder / "crashes.journal", folder / "slow.journal"
    loads = ["--load-seconds", "0.2", "--crash-at", "load", "--journal", str(crashes)]
    tokens = ["--tokens", "100000", "--tokens-per-second", "50", "--journal", str(slow)]
    # One that has failed before may have to rest: each is asked for once.
    models = [fake(f"crash-{n}", *loads) for n in range(ROUNDS)] + [fake("slow", *tokens)]
    async with pair(folder / "faults", "".join(models)) as both:
        told = [await failed_load(both, f"crash-{n}", crashes) for n in range(ROUNDS)]
        closed = [await left(both, slow) for _ in range(ROUNDS)]
    return {
        "failed_load_heard_ms": summary(told),
        "client_left_engine_request_closed_ms": summary(closed),
    }


async def failed_load(both: Pair, model: str, notes: Path) -> float:
    """Seconds from the engine's exit to the end of the waiting client's stream."""
    told = await ask(both.http, chat(model))
    assert told.error is not None
    return time.monotonic() - events(notes, "exit")[-1]["at"]


async def left(both: Pair, notes: Path) -> float:
    """Seconds from the client's leaving in mid-answer to the engine's noticing."""
    before = len(events(notes, "gone"))
    async with both.http.stream("POST", "/v1/chat/completions", json=chat("slow")) as response:
        told = frames(response)
        while (await anext(told)).event != "message":
            pass
        at = time.monotonic()
    gone = await until(lambda: events(notes, "gone")[before:])
    return float(gone[0]["at"] - at)


def events(notes: Path, event: str) -> list[dict[str, Any]]:
    lines = notes.read_text().splitlines() if notes.exists() else []
    return [entry for line in lines if (entry := json.loads(line))["event"] == event]
