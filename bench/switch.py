"""What a switch costs beyond the engine's own stop and load.

Each round times the same programs bare, then through the pair: from a streaming request for a
model that is not loaded to its first token, less what the same takes when it is loaded. The
difference of the two is ours.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import httpx

from bench import bare
from tests.e2e.pair import Pair, chat, fake, make_model, pair
from tests.harness import frames

ROUNDS = 20
Timing = tuple[float, float]  # seconds of a load and of a stop


async def figures(folder: Path) -> dict[str, object]:
    demo = {name: make_model(folder, name) for name in ("demo-small", "demo-medium", "demo-big")}
    lines = "".join(
        f"  {name}: {{engine: embedded, path: {path}, vram: 900MiB, args: [--threads, '1']}}\n"
        for name, path in demo.items()
    )
    results: dict[str, object] = {
        "embedded": await measure(
            folder, "embedded", lines, [*demo], lambda name: bare.embedded(demo[name], folder)
        )
    }
    for load in (0.0, 0.3):
        lines = "".join(fake(name, "--load-seconds", str(load)) for name in "ab")
        results[f"command, loads in {load} s"] = await measure(
            folder, f"command-{load}", lines, ["a", "b"], lambda name, s=load: bare.fake(s, folder)
        )
    return results


async def measure(
    folder: Path, name: str, models: str, order: list[str], time_bare: Callable[[str], Timing]
) -> dict[str, object]:
    (folder / name).mkdir()
    extra: list[float] = []
    async with pair(folder / name, models) as both:
        await first_token(both, order[-1])
        before = order[-1]
        for model in islice(cycle(order), ROUNDS):
            _, stop = time_bare(before)
            load, _ = time_bare(model)
            cold = await first_token(both, model)
            warm = await first_token(both, model)
            extra.append(cold - warm - stop - load)
            before = model
    return {
        "rounds": ROUNDS,
        "ms_beyond_the_engines": summary(extra),
    }


async def first_token(both: Pair, model: str) -> float:
    """Seconds from the request to the first byte of the engine's own."""
    began = time.monotonic()
    async with both.http.stream("POST", "/v1/chat/completions", json=chat(model)) as response:
        assert response.status_code == httpx.codes.OK
        at = [frame.at async for frame in frames(response) if frame.event == "message"]
    return at[0] - began


def summary(seconds: list[float]) -> dict[str, float]:
    """In milliseconds."""
    ms = sorted(s * 1000 for s in seconds)

    def at(share: float) -> float:
        return round(ms[min(len(ms) - 1, int(len(ms) * share))], 1)

    middle = round(statistics.median(ms), 1)
    return {"p25": at(0.25), "median": middle, "p75": at(0.75), "p99": at(0.99)}
