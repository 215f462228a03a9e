"""How right the told time is: `eta_s` of every frame against the time that was really left.

The error of a frame is the difference, as a share of the whole switch: from its first phase in
which something was told to the model's readiness.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from itertools import cycle, islice
from pathlib import Path

from tests.e2e.pair import Pair, chat, fake, make_model, pair
from tests.harness import frames

LEARNING = 5  # loads of each model before anything is counted
MEASURED = 10  # loads of each model after them
TICK = "progress: {interval: 100ms}"


async def figures(folder: Path) -> dict[str, object]:
    (folder / "eta").mkdir()
    demo = {name: make_model(folder, name) for name in ("demo-medium", "demo-big")}
    models = "".join(
        f"  {name}: {{engine: embedded, path: {path}, vram: 900MiB, args: [--threads, '1']}}\n"
        for name, path in demo.items()
    )
    models += fake("command", "--load-seconds", "1")
    names = [*demo, "command"]
    errors: dict[str, list[float]] = {name: [] for name in names}
    sources: Counter[str] = Counter()
    silent = 0
    async with pair(folder / "eta", models, router_yaml=TICK) as both:
        for model in islice(cycle(names), LEARNING * len(names)):
            await told(both, model)
        for model in islice(cycle(names), MEASURED * len(names)):
            found, nothing_told = await told(both, model)
            errors[model] += [error for error, _ in found]
            sources.update(source for _, source in found)
            silent += nothing_told
    return {
        "loads_before": LEARNING,
        "error_percent": {name: percent(found) for name, found in errors.items()},
        "all": percent([error for found in errors.values() for error in found]),
        "frames_by_source": sources,
        "frames_without_a_time": silent,  # before a reaction, and after a promise that was broken
    }


async def told(both: Pair, model: str) -> tuple[list[tuple[float, str]], int]:
    """For each frame that told a time: its error, and where it said that it had it from. And how
    many told none."""
    said: list[tuple[float, float | None, str]] = []
    async with both.http.stream("POST", "/v1/chat/completions", json=chat(model)) as response:
        async for frame in frames(response):
            if frame.event != "model_switching":
                continue
            frame_said = json.loads(frame.data)["model_switching"]
            if frame_said["phase"] == "ready":
                ready = frame.at
                break
            said.append((frame.at, frame_said["eta_s"], frame_said["eta_source"]))
        else:
            raise AssertionError(f"{model} did not become ready")
    whole = ready - said[0][0]
    errors = [
        (abs(eta - (ready - at)) / whole, source) for at, eta, source in said if eta is not None
    ]
    return errors, len(said) - len(errors)


def percent(errors: list[float]) -> dict[str, float]:
    ordered = sorted(errors)
    return {
        "frames": len(ordered),
        "median": round(100 * statistics.median(ordered), 1),
        "p90": round(100 * ordered[int(len(ordered) * 0.9)], 1),
    }
