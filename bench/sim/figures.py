"""Our cores beside a model of llama-swap, on the same requests: how long whole answers take.

Our engines take 25 ms longer to load than the others', which is what a switch costs with us, and
10 ms to stop; messages are 0.5 to 2 ms on their way.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.sim.llama_swap import llama_swap
from bench.sim.onebox import OneBox
from bench.sim.yard import yard
from bench.waits import share
from bench.workload import (
    Arrival,
    Workload,
    agents,
    alternation,
    always,
    busy,
    evenly,
    poisson,
)
from tests.core.pair import FIRST_HEARING, Pair
from tests.core.pair_sidecar import Program

ABC = "ABC"
ANSWER = 0.3  # seconds
SECONDS = 60.0
DEAD_TIME = 0.025  # seconds: the README's figure of a switch, and some more
LONGEST = 600.0  # seconds until the last is answered


@dataclass(frozen=True, slots=True)
class Line:
    """`aim`: at most this."""

    what: str
    aim: float
    ours: float
    unit: str = ""
    remark: str = ""

    @property
    def is_met(self) -> bool:
        return self.ours <= self.aim


def programs(load: float, dead_time: float = 0.0) -> dict[str, Program]:
    return {model: Program(load=load + dead_time) for model in ABC}


def ours(load: float, workload: Workload, seed: int, boxes: int = 1, room: int = 1) -> Pair:
    pair = yard(programs(load, DEAD_TIME), workload, seed, boxes, room)
    pair.run(FIRST_HEARING + workload.seconds)
    pair.run_until_all_have_ended(within=LONGEST)
    return pair


def theirs(load: float, workload: Workload) -> OneBox:
    box = llama_swap(programs(load), workload)
    box.clock.run(LONGEST, done=lambda: False)
    return box


def whole(run: Pair | OneBox) -> list[float]:
    """From the request to the end of its answer."""
    if isinstance(run, Pair):
        return [r.wait + r.answer for r in run.requests]
    return [r.admitted - r.arrived + r.answer for r in run.requests]


def random_requests(seeds: int) -> list[Line]:
    lines = []
    for load, boxes, room, aim, where in (
        (2.0, 1, 1, 0.92, "one box"),
        (0.3, 1, 1, 0.45, "one box"),
        (2.0, 2, 1, 0.45, "two boxes"),
        (2.0, 1, 2, 0.45, "two of three fit together"),
    ):
        for rate in (2, 4):
            what = f"{where}, load {load:g} s, {rate} requests per second"
            lines.append(paired(what, aim, load, rate, seeds, boxes, room))
    return lines


def paired(
    what: str, aim: float, load: float, rate: float, seeds: int, boxes: int, room: int
) -> Line:
    """The mean of the ratios, over traces of a minute."""
    mine: list[list[float]] = []
    other: list[list[float]] = []
    for seed in range(seeds):
        workload = poisson(evenly(ABC, rate), always(ANSWER), SECONDS, seed)
        mine.append(whole(ours(load, workload, seed, boxes, room)))
        other.append(whole(theirs(load, workload)))
    ratios = [statistics.fmean(m) / statistics.fmean(o) for m, o in zip(mine, other, strict=True)]
    said = f"{described(mine)}; llama-swap's {described(other)}; worst trace {max(ratios):.2f}"
    return Line(what, aim, statistics.fmean(ratios), remark=said)


def described(runs: Sequence[Sequence[float]]) -> str:
    mean = statistics.fmean(statistics.fmean(run) for run in runs)
    p95 = statistics.fmean(share(sorted(run), 0.95) for run in runs)
    return f"mean {mean:.2f} s, p95 {p95:.2f} s"


def in_turn(load: float) -> Line:
    workload = alternation("AB", ANSWER, SECONDS, pause=0.0)
    pair = ours(load, workload, seed=1)
    slowest = max(pair.waits)
    other = max(whole(theirs(load, workload))) - ANSWER
    return Line(
        f"A, B, A, B in turn, load {load:g} s: longest wait",
        load + 0.05,
        slowest,
        "s",
        f"llama-swap's {other:.2f} s",
    )


def two_agents(seeds: int) -> Line:
    mine, other = [], []
    for seed in range(seeds):
        workload = agents("AB", 0.5, 120.0, 0.1, seed)
        mine += ours(2.0, workload, seed).waits
        other += [r.admitted - r.arrived for r in theirs(2.0, workload).requests]
    return Line(
        "two agents, load 2 s: mean wait",
        1.5,
        statistics.fmean(mine),
        "s",
        f"llama-swap's {statistics.fmean(other):.2f} s",
    )


def one_among_busy(seeds: int) -> list[Line]:
    """Four clients that keep A busy. B is wanted once A is, and while A is loading still."""
    waits, late, lost, other = [], [], [], []
    for seed in range(seeds):
        alone = busy("A", 4, ANSWER, SECONDS, seed)
        undisturbed = len(ours(2.0, alone, seed).requests)
        asked = alone + Workload(SECONDS, (Arrival(5.0 + seed / 10, "B", ANSWER),))
        pair = ours(2.0, asked, seed)
        waits += wait_for("B", pair)
        lost.append((undisturbed - len(pair.requests) + 1) * SECONDS / undisturbed)
        early = alone + Workload(SECONDS, (Arrival(0.5, "B", ANSWER),))
        late += wait_for("B", ours(2.0, early, seed))
        other += [r.admitted - r.arrived for r in theirs(2.0, asked).requests if r.model == "B"]
    said = (
        f"llama-swap's {max(other):.1f} s: until A's clients stop; {max(late):.1f} s "
        "where A itself still loads when B is wanted"
    )
    two_switches = 2 * (2.0 + DEAD_TIME + 0.01) + 2 * 1.33 * ANSWER
    return [
        Line("A busy, one request for B, load 2 s: B's longest wait", 8.5, max(waits), "s", said),
        Line(
            "what A's clients lose by it",
            two_switches,
            statistics.fmean(lost),
            "s",
            "two switches, and a drain before each",
        ),
    ]


def wait_for(model: str, pair: Pair) -> list[float]:
    return [r.wait for r in pair.requests if r.ticket.model == model]


def figures(seeds: int) -> list[Line]:
    return [
        *random_requests(seeds),
        in_turn(2.0),
        in_turn(0.3),
        two_agents(seeds),
        *one_among_busy(seeds),
    ]
