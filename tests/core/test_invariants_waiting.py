"""I2 and I11: how long anybody waits, and how often what cannot be loaded is tried."""

from __future__ import annotations

import math
from collections.abc import Sequence

import hypothesis.strategies as st
from hypothesis import given

from tests.core.pair import FAR, FIRST_HEARING, Pair
from tests.core.pair_judge import Judge, turn
from tests.core.pair_records import Program, Request
from tests.core.storms import stories

LONGEST = 1.3  # of the mean: the longest answer of a client that keeps asking
SMALL = 0.1  # seconds: what messages and their coalescing may cost
BATCH = 8.0  # switch costs: the longest visit of all
FORGIVEN = 2  # failures before the back-off begins

TIMES = st.sampled_from([0.3, 1.0, 2.0, 5.0])
ANSWERS = st.sampled_from([0.05, 0.3, 1.0])
STOPS = st.sampled_from([0.01, 0.3])


def program(**more: object) -> st.SearchStrategy[Program]:
    return st.builds(Program, load=TIMES, stop=STOPS, answer=ANSWERS, **more)  # type: ignore[arg-type]


@stories(8)
@given(
    busy=program(),
    other=program(),
    clients=st.integers(1, 4),
    at=st.sampled_from([0.2, 1.0, 6.0, 11.0]),
    priority=st.integers(-1, 1),
    seed=st.integers(0, 99),
)
def test_one_other_model_waits_for_two_switch_costs_a_drain_a_stop_and_its_load(
    busy: Program, other: Program, clients: int, at: float, priority: int, seed: int
) -> None:
    """I2, with one other model and free slots; by its priority it waits for more or for fewer
    switch costs."""
    drain = LONGEST * busy.answer
    cost = other.load + busy.stop + drain
    began = FIRST_HEARING + max(at, busy.load + SMALL)  # its visit, at the earliest
    latest = began + 2 * cost / 4.0**priority + drain + busy.stop + other.load + SMALL
    pair = Pair({"busy": busy, "other": other}, seed)
    for _ in range(clients):
        pair.keep_asking("busy", until=latest)
    wanted = pair.ask("other", at=FIRST_HEARING + at, priority=priority)
    pair.run(latest)
    assert wanted.admitted is not None


@stories(4)
@given(
    programs=st.lists(program(slots=st.sampled_from([1, 2, 100])), min_size=2, max_size=4),
    clients=st.lists(st.integers(0, 3), min_size=2, max_size=6),
    patience=st.sampled_from([10.0, 60.0]),
    seed=st.integers(0, 99),
)
def test_whoever_is_next_for_a_model_is_served_when_all_others_have_had_their_turn(
    programs: list[Program], clients: list[int], patience: float, seed: int
) -> None:
    """I2, with several models on one place: patience, then one visit of each other."""
    pair = Pair(dict(zip("ABCD", programs, strict=False)), seed, delays=FAR, patience=patience)
    judge = Judge(pair)
    for client in clients:
        pair.keep_asking("ABCD"[client % len(programs)], until=25.0)
    judge.comes_to_the_end()
    longest = max(one.load + one.stop + LONGEST * one.answer for one in programs)
    for request in pair.requests:
        own = pair.programs[request.ticket.model]
        turns = [
            BATCH * longest + LONGEST * one.answer + one.stop + one.load
            for model, one in pair.programs.items()
            if model != request.ticket.model
        ]
        bound = patience + sum(turns) + own.load + LONGEST * own.answer
        assert request.admitted is not None
        assert request.admitted - first_since(request, pair.requests) <= bound + SMALL


def first_since(request: Request, requests: Sequence[Request]) -> float:
    """When all who came before it for the same model had been served, or had gone."""
    ahead = [
        one.ended if one.admitted is None else one.admitted
        for one in requests
        if one.ticket.model == request.ticket.model and turn(one.ticket) < turn(request.ticket)
    ]
    return max([request.ticket.arrived, *ahead])


def tries(seconds: float) -> float:
    """I11: how often a model that never loads may be tried in so many seconds."""
    doubling = min(seconds, 300.0)
    return 1 + math.log2(max(1.0, doubling / 10)) + max(0.0, seconds - 300.0) / 300 + FORGIVEN


@stories(3)
@given(
    bad=program(fails=st.just(1.0)),
    good=program(),
    boxes=st.integers(1, 3),
    seconds=st.sampled_from([30.0, 200.0, 700.0]),
    every=st.sampled_from([3.0, 7.0]),
    seed=st.integers(0, 99),
)
def test_a_model_that_never_loads_is_tried_ever_less(
    bad: Program, good: Program, boxes: int, seconds: float, every: float, seed: int
) -> None:
    """I11: on each box, and that healthy engines leave for it twice at most in a fleet. A box that
    is alone has nowhere else to try, so there each try may send one away."""
    pair = Pair({"good": good, "bad": bad}, seed, boxes=boxes)
    for n in range(int(seconds / every)):
        pair.ask("bad", at=1.0 + n * every)
    for n in range(int(seconds / 10)):
        pair.ask("good", at=1.0 + n * 10)
    pair.run_until_all_have_ended(within=seconds + 60.0)
    for sidecar in pair.sidecars.values():
        assert sum(one.model == "bad" for one in sidecar.launches) <= tries(seconds)
    evicted = [one for one in pair.launches if one.because.startswith("bad: ")]
    assert len(evicted) <= (2 if boxes > 1 else tries(seconds))
