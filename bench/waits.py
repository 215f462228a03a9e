"""What a trace is judged by: how long requests waited, all together and by model."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """`n`, and in seconds: mean, median, 95th percentile and maximum."""
    ordered = sorted(seconds)
    if not ordered:
        return {"n": 0}
    return {
        "n": len(ordered),
        "mean": round(statistics.fmean(ordered), 3),
        "p50": round(share(ordered, 0.5), 3),
        "p95": round(share(ordered, 0.95), 3),
        "max": round(ordered[-1], 3),
    }


def share(ordered: Sequence[float], part: float) -> float:
    """The value below which this part of them lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def by_model(waits: Iterable[tuple[str, float]]) -> dict[str, dict[str, float]]:
    sorted_out: dict[str, list[float]] = {}
    for model, wait in waits:
        sorted_out.setdefault(model, []).append(wait)
    return {model: summary(sorted_out[model]) for model in sorted(sorted_out)}


def geometric(ratios: Sequence[float]) -> float:
    return math.exp(statistics.fmean(math.log(ratio) for ratio in ratios))
