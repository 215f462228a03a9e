"""The traces that policies are compared on: one box, from easy to nasty."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.workload import (
    Workload,
    about,
    agents,
    alternation,
    always,
    bursts,
    busy,
    day,
    evenly,
    poisson,
    sessions,
    spread,
    zipf,
)
from tests.core.pair_sidecar import Program

ABC = "ABC"
GIB_PER_SECOND = 2.0  # of a fast disk; what a load takes beside it: 1 s


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    programs: Mapping[str, Program]
    workload: Callable[[int], Workload]  # by seed
    room: int = 1


def same(load: float, slots: int = 64, models: Sequence[str] = ABC) -> dict[str, Program]:
    return {model: Program(load=load, slots=slots) for model in models}


def unequal(**loads: float) -> dict[str, Program]:
    return {model: Program(load=load, slots=64) for model, load in loads.items()}


def of_many_sizes(count: int) -> dict[str, Program]:
    """2 to 20 GiB each, and loads that follow from it."""
    chance = random.Random(count)
    sizes = [chance.randint(2, 20) for _ in range(count)]
    return {
        f"m{n}": Program(load=1 + size / GIB_PER_SECOND, slots=4, need=size)
        for n, size in enumerate(sizes)
    }


def open_traffic(
    name: str, load: float, answer: float, rate: float, seconds: float, slots: int = 64
) -> Case:
    length = always(answer) if answer < 1 else spread(answer)
    return Case(
        name,
        same(load, slots),
        lambda seed: poisson(evenly(ABC, rate), length, seconds, seed),
    )


def hog(name: str, load: float, every: float, seconds: float) -> Case:
    """Four clients that keep A busy, and now and then a request for B."""
    return Case(
        name,
        same(load, models="AB"),
        lambda seed: (
            busy("A", 4, 0.3, seconds, seed)
            + poisson({"B": 1 / every}, about(0.3), seconds, seed + 50)
        ),
    )


def streams(seed: int) -> Workload:
    """Answers of a minute for A, short ones for B."""
    long = poisson({"A": 0.03}, spread(60, 0.5), 7200, seed)
    return long + poisson({"B": 0.1}, about(0.5), 7200, seed + 7)


TEN = [f"m{n}" for n in range(10)]
TWELVE, THIRTY = of_many_sizes(12), of_many_sizes(30)

CASES = (
    open_traffic("random, load 2 s, answers 0.3 s, 2/s", 2, 0.3, 2, 600),
    open_traffic("random, load 2 s, answers 0.3 s, 4/s", 2, 0.3, 4, 600),
    open_traffic("random, load 0.3 s, answers 0.3 s, 2/s", 0.3, 0.3, 2, 600),
    open_traffic("random, load 0.3 s, answers 0.3 s, 4/s", 0.3, 0.3, 4, 600),
    open_traffic("random, load 2 s, answers 2 s, 1/s", 2, 2, 1, 900),
    open_traffic("random, load 10 s, answers 2 s, 1/s", 10, 2, 1, 1500),
    open_traffic("random, load 30 s, answers 10 s, 0.5/s", 30, 10, 0.5, 3600),
    open_traffic("random and rare, load 10 s, 0.05/s", 10, 0.3, 0.05, 7200),
    hog("busy A, a request for B, load 2 s", 2, 40, 1200),
    hog("busy A, a request for B, load 10 s", 10, 120, 1200),
    Case(
        "one client in turn, load 2 s",
        same(2, models="AB"),
        lambda seed: alternation("AB", 0.3, 600, 0.2),
    ),
    Case(
        "two agents, load 2 s",
        same(2, models="AB"),
        lambda seed: agents("AB", 0.5, 600, 0.1, seed),
    ),
    Case(
        "two agents, load 10 s",
        same(10, models="AB"),
        lambda seed: agents("AB", 2, 1800, 0.3, seed),
    ),
    Case("bursts, load 2 s", same(2), lambda seed: bursts(ABC, about(1), 1200, 4, 6, seed)),
    Case("bursts, load 10 s", same(10), lambda seed: bursts(ABC, spread(2), 3600, 15, 8, seed)),
    Case(
        "80, 15 and 5 %, load 10 s",
        same(10),
        lambda seed: poisson({"A": 1.6, "B": 0.3, "C": 0.1}, spread(1), 1800, seed),
    ),
    Case(
        "96, 3 and 1 %, load 2 s",
        same(2),
        lambda seed: poisson({"A": 3.0, "B": 0.1, "C": 0.02}, spread(0.5), 1800, seed),
    ),
    Case("answers of 60 s, and short ones", same(10, slots=4, models="AB"), streams),
    Case(
        "loads of 1, 30 and 8 s",
        unequal(A=1, B=30, C=8),
        lambda seed: poisson({"A": 0.5, "B": 0.2, "C": 0.3}, spread(1), 3600, seed),
    ),
    Case(
        "ten models, few asked for often, load 5 s",
        same(5, models=TEN),
        lambda seed: poisson(zipf(TEN, 1.0, seed), spread(1), 1800, seed),
    ),
    Case(
        "a day of changing demand, load 10 s",
        same(10),
        lambda seed: day(evenly(ABC, 1.5), spread(1), 3600, 1200, seed),
    ),
    open_traffic("one slot, load 5 s, answers 2 s, 0.3/s", 5, 2, 0.3, 3600, slots=1),
    open_traffic("four slots, always full, load 5 s", 5, 2, 1.2, 3600, slots=4),
    Case(
        "12 models of 2 to 20 GiB on 24 GiB",
        TWELVE,
        lambda seed: poisson(zipf([*TWELVE], 0.5, seed), spread(2), 3600, seed),
        room=24,
    ),
    Case(
        "sessions, 30 models of 2 to 20 GiB on 48 GiB",
        THIRTY,
        lambda seed: sessions([*THIRTY], spread(4), 3600, 20, 8, seed),
        room=48,
    ),
)
