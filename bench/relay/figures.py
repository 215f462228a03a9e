"""What is measured, and what is said of it.

Rule: no I/O and no clock. What was seen of each round is kept; what is compared is the medians.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.relay.load import Job

Seen = dict[str, Any]  # of one round: numbers by name

STREAM = 5_000  # chunks of a fast one: 1 MB, so that its request hardly counts


@dataclass(frozen=True, slots=True)
class Figure:
    what: str
    connections: int
    stream: bool = False
    rate: int = 0  # chunks per second of each stream; 0: as fast as they can

    def job(self, url: str, key: str, seconds: float, warm_up: float) -> Job:
        lasts = warm_up + seconds + 1  # they begin within the first second
        tokens = round(self.rate * lasts) if self.rate else STREAM * self.stream
        return Job(url, key, self.connections, seconds, warm_up, tokens, self.rate)


FIGURES = {
    "requests": Figure("whole answers, 32 connections", 32),
    "alone": Figure("whole answers, 1 connection", 1),
    "chunks": Figure("8 streams, as fast as they can", 8, stream=True),
    "streams-50": Figure("50 streams of 50 chunks per second", 50, stream=True, rate=50),
    "streams-1000": Figure("1,000 streams of 20 chunks per second", 1000, stream=True, rate=20),
}


def summary(rounds: Sequence[Seen]) -> Seen:
    """The median of each number; what was seen in each round stands beside it."""
    names = rounds[0].keys() - {"units"}
    middle = {name: statistics.median(seen[name] for seen in rounds) for name in sorted(names)}
    return {**middle, "rounds": [*rounds]}


def compared(pair: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float]:
    """The pair's numbers, as shares of another's."""
    both = [name for name in other if name in pair and isinstance(other[name], int | float)]
    return {name: round(pair[name] / other[name], 3) for name in both if other[name]}


def added(seen: Mapping[str, Any], direct: Mapping[str, Any]) -> dict[str, float]:
    """What a chunk takes longer than without anything between."""
    lags = [name for name in seen if name.startswith("lag_") and name in direct]
    return {f"added_{name}": round(seen[name] - direct[name], 3) for name in lags}
