"""How soon a client that waits hears something, and how old the news is when it comes."""

from __future__ import annotations

import json
import time
from itertools import cycle, islice
from pathlib import Path

from bench.switch import summary
from tests.e2e.pair import Pair, chat, fake, pair
from tests.harness import frames

SWITCHES = 100


async def figures(folder: Path) -> dict[str, object]:
    (folder / "progress").mkdir()
    models = "".join(fake(name, "--load-seconds", "0.1") for name in "ab")
    first: list[float] = []
    ages: list[float] = []
    async with pair(folder / "progress", models) as both:
        for model in islice(cycle("ab"), SWITCHES):
            await listen(both, model, first, ages)
    return {
        "switches": SWITCHES,
        "first_frame_ms": summary(first),
        "phase_changes": len(ages),
        "phase_change_age_ms": summary(ages),
    }


async def listen(both: Pair, model: str, first: list[float], ages: list[float]) -> None:
    """Note when the first frame came, and for each change of phase or step how long after the
    sidecar's own time of it it was here. Both programs share this machine's clock."""
    began, before = time.monotonic(), None
    async with both.http.stream("POST", "/v1/chat/completions", json=chat(model)) as response:
        async for frame in frames(response):
            now = time.time() - (time.monotonic() - frame.at)
            if frame.event != "model_switching":
                continue
            told = json.loads(frame.data)["model_switching"]
            if before is None:
                first.append(frame.at - began)
            elif (told["phase"], told["step"]) != before:
                ages.append(now - told["at"])
            before = (told["phase"], told["step"])
