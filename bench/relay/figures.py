"""What is measured, what is made of it, and what the pair has to reach.

Rule: no I/O and no clock. Medians of the rounds are told and compared; what was seen of each round
stands beside them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bench.relay.load import Job

T = TypeVar("T")
Seen = dict[str, Any]  # numbers by name, of one round or of all

WARM_UP = 0.5  # seconds of each round that are not counted: connections, caches
SPREAD = 2.0  # seconds before those, in which streams at a rate begin, so that they are not in step
STREAM = 5_000  # chunks of a fast one: 1 MB, so that its request hardly counts


@dataclass(frozen=True, slots=True)
class Figure:
    what: str
    connections: int
    stream: bool = False
    rate: int = 0  # chunks per second of each stream; 0: as fast as they can

    def job(self, url: str, key: str, seconds: float) -> Job:
        spread = SPREAD if self.rate else 0.0
        lasts = spread + WARM_UP + seconds
        tokens = round(self.rate * lasts) if self.rate else STREAM * self.stream
        return Job(url, key, self.connections, seconds, WARM_UP, spread, tokens, self.rate)


FIGURES = {
    "requests": Figure("whole answers, 32 connections", 32),
    "alone": Figure("whole answers, 1 connection", 1),
    "chunks": Figure("8 streams, as fast as they can", 8, stream=True),
    "streams-50": Figure("50 streams of 50 chunks per second", 50, stream=True, rate=50),
    "streams-1000": Figure("1,000 streams of 20 chunks per second", 1000, stream=True, rate=20),
}


def in_turn(everyone: Sequence[T], n: int) -> list[T]:
    """The order of round n: each time another one begins, so that none always follows the same."""
    first = n % len(everyone)
    return [*everyone[first:], *everyone[:first]]


def told(figure: Figure, rounds: Mapping[str, Sequence[Seen]]) -> dict[str, Any]:
    """All of one figure: each target's medians, and the pair's as shares of the others'."""
    medians = {name: median(seen) for name, seen in rounds.items()}
    direct, pair = medians["direct"], medians["pair"]
    all_of_it = {
        name: {**medians[name], **added(medians[name], direct), "rounds": [*seen]}
        for name, seen in rounds.items()
    }
    others = [name for name in medians if name not in ("direct", "pair")]
    shares = {name: compared(pair, medians[name]) for name in others}
    return {"what": figure.what, "targets": all_of_it, "pair_to": shares}


def median(rounds: Sequence[Seen]) -> Seen:
    names = [name for name in rounds[0] if name != "units"]
    return {name: statistics.median(seen[name] for seen in rounds) for name in names}


def added(seen: Seen, direct: Seen) -> Seen:
    """What a chunk takes longer than with nothing between."""
    lags = [name for name in seen if name.startswith("lag_")]
    return {f"added_{name}": round(seen[name] - direct[name], 3) for name in lags}


def compared(pair: Seen, other: Seen) -> Seen:
    both = [name for name in pair if other.get(name)]
    return {name: round(pair[name] / other[name], 3) for name in both}


# What the pair has to reach.


@dataclass(frozen=True, slots=True)
class Aim:
    what: str
    figure: str
    number: str
    bound: float
    at_least: bool
    of: str = ""  # the target that it is a share of; none: the number itself

    def is_met_by(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def value(self, figures: Mapping[str, Any]) -> float | None:
        """None: this run does not tell."""
        seen = figures.get(self.figure)
        if seen is None:
            return None
        numbers = seen["pair_to"].get(self.of, {}) if self.of else seen["targets"]["pair"]
        value: float | None = numbers.get(self.number)
        return value


ONE, TWO = "llama-swap", "llama-swap-twice"  # names that a run gives to those it is compared with
RATE, P50, ADDED = "requests_per_s", "took_p50_ms", "added_lag_p99_ms"
AIMS = (
    Aim("requests/s, of llama-swap's (one hop)", "requests", RATE, 1.1, True, ONE),
    Aim("time of an answer, of llama-swap's (one hop)", "alone", P50, 0.95, False, ONE),
    Aim("requests/s, of llama-swap's behind llama-swap", "requests", RATE, 2.0, True, TWO),
    Aim("time of an answer, of llama-swap's behind llama-swap", "alone", P50, 0.5, False, TWO),
    Aim("chunks/s to 8 streams, of llama-swap's", "chunks", "chunks_per_s", 1.2, True, ONE),
    Aim("added to a chunk, 50 streams (p99, ms)", "streams-50", ADDED, 5.0, False),
    Aim("added to a chunk, 1,000 streams (p99, ms)", "streams-1000", ADDED, 50.0, False),
    Aim("of their 20,000 chunks/s, carried", "streams-1000", "chunks_per_s", 19_500, True),
)


def aims(figures: Mapping[str, Any]) -> Iterator[tuple[Aim, float]]:
    """Those that a run tells of."""
    for aim in AIMS:
        if (value := aim.value(figures)) is not None:
            yield aim, value


def lines(met: Iterable[tuple[Aim, float]]) -> Iterator[str]:
    for aim, value in met:
        word = "at least" if aim.at_least else "at most"
        verdict = "ok" if aim.is_met_by(value) else "NO"
        yield f"{verdict:3}{aim.what}: {value:g} ({word} {aim.bound:g})"
