"""What clients do, written down before it is played: by `bench.traces` in real time, by
`bench.sim` on a virtual clock.

Rule: everything random has one seed, so all who are compared get the same requests.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Length = Callable[[random.Random], float]  # seconds that one answer takes


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request, `at` seconds after the beginning."""

    at: float
    model: str
    answer: float


@dataclass(frozen=True, slots=True)
class Agent:
    """A client that asks for its models in turn, one at a time, `pause` after each answer."""

    models: tuple[str, ...]
    answer: tuple[float, float]  # the shortest and the longest
    pause: float
    seed: int
    start: float = 0.0

    def asks(self) -> Iterator[tuple[str, float]]:
        """Model and length of the answer, without an end."""
        chance = random.Random(self.seed)
        while True:
            for model in self.models:
                yield model, chance.uniform(*self.answer)


@dataclass(frozen=True, slots=True)
class Workload:
    """Nobody asks after `seconds`."""

    seconds: float
    arrivals: tuple[Arrival, ...] = ()
    agents: tuple[Agent, ...] = ()

    def __add__(self, other: Workload) -> Workload:
        return Workload(
            max(self.seconds, other.seconds),
            in_order(self.arrivals + other.arrivals),
            self.agents + other.agents,
        )


def in_order(arrivals: Sequence[Arrival]) -> tuple[Arrival, ...]:
    return tuple(sorted(arrivals, key=lambda arrival: arrival.at))


# How long answers are.


def always(seconds: float) -> Length:
    return lambda chance: seconds


def about(seconds: float) -> Length:
    """Up to a third more or less."""
    return lambda chance: seconds * chance.uniform(0.67, 1.33)


def spread(mean: float, sigma: float = 0.8) -> Length:
    """Lognormal: most are short, some are very long, as answers of chats are."""
    return lambda chance: chance.lognormvariate(math.log(mean) - sigma**2 / 2, sigma)


# Who asks.


def poisson(rates: Mapping[str, float], answer: Length, seconds: float, seed: int) -> Workload:
    """Requests for each model by no rhythm; `rates` per second."""
    chance = random.Random(seed)
    arrivals = []
    for model, rate in rates.items():
        at = 0.0
        while (at := at + chance.expovariate(rate)) < seconds:
            arrivals.append(Arrival(at, model, answer(chance)))
    return Workload(seconds, in_order(arrivals))


def evenly(models: Sequence[str], rate: float) -> dict[str, float]:
    """`rate`: of all the models together."""
    return {model: rate / len(models) for model in models}


def zipf(models: Sequence[str], rate: float, seed: int) -> dict[str, float]:
    """A few are asked for often and many rarely; which ones, the seed says."""
    weights = [1 / rank for rank in range(1, len(models) + 1)]
    shuffled = random.Random(seed).sample(models, len(models))
    return {
        model: rate * weight / sum(weights) for model, weight in zip(shuffled, weights, strict=True)
    }


def day(
    rates: Mapping[str, float], answer: Length, seconds: float, period: float, seed: int
) -> Workload:
    """Rates swing between 0.2 and 1.8 of their means, each model at another time."""
    chance = random.Random(seed)
    busiest = poisson({m: 1.8 * rate for m, rate in rates.items()}, answer, seconds, seed)
    phase = {model: n / len(rates) for n, model in enumerate(rates)}

    def happens(arrival: Arrival) -> bool:
        swing = math.sin(2 * math.pi * (arrival.at / period + phase[arrival.model]))
        return chance.random() < (1 + 0.8 * swing) / 1.8

    return Workload(seconds, tuple(a for a in busiest.arrivals if happens(a)))


def bursts(
    models: Sequence[str], answer: Length, seconds: float, gap: float, size: float, seed: int
) -> Workload:
    """`size` requests for one model within a second, every `gap` seconds: both on the mean."""
    chance = random.Random(seed)
    arrivals, at = [], 0.0
    while (at := at + chance.expovariate(1 / gap)) < seconds:
        model = chance.choice(models)
        arrivals += [
            Arrival(at + chance.random(), model, answer(chance))
            for _ in range(1 + int(chance.expovariate(1 / size)))
        ]
    return Workload(seconds, in_order(arrivals))


def sessions(
    models: Sequence[str], answer: Length, seconds: float, gap: float, turns: int, seed: int
) -> Workload:
    """Somebody comes every `gap` seconds, and talks to one model for `turns`: both on the mean."""
    chance = random.Random(seed)
    arrivals, comes = [], 0.0
    while (comes := comes + chance.expovariate(1 / gap)) < seconds:
        model, at = chance.choice(models), comes
        for _ in range(1 + int(chance.expovariate(1 / turns))):
            arrivals.append(Arrival(at, model, answer(chance)))
            at += chance.uniform(2.0, 20.0)  # to read, and to write
    return Workload(seconds, in_order([a for a in arrivals if a.at < seconds]))


def alternation(models: Sequence[str], answer: float, seconds: float, pause: float) -> Workload:
    """One client that changes its model at every request."""
    return Workload(seconds, agents=(Agent(tuple(models), (answer, answer), pause, seed=0),))


def agents(
    models: Sequence[str], answer: float, seconds: float, pause: float, seed: int
) -> Workload:
    """One client for each model, that stays with it; their answers vary by a third."""
    clients = (
        Agent((m,), (answer * 0.67, answer * 1.33), pause, seed * 100 + n)
        for n, m in enumerate(models)
    )
    return Workload(seconds, agents=tuple(clients))


def busy(model: str, clients: int, answer: float, seconds: float, seed: int) -> Workload:
    """Clients that ask for one model again and again; their answers vary by a third, so that
    there is never a moment in which all have just ended."""
    return agents([model] * clients, answer, seconds, 0.002, seed)
