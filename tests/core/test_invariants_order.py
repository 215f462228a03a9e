"""I9 and I10: who is chosen, seen from outside of those who choose."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import given

from router.effects import Send
from router.limits import LineLimits
from router.line import Line
from router.queue import Queue, Ticket
from shared.status import ModelStatus, Phase
from sidecar.demand import Want
from tests.core.said import catalogue, status
from tests.core.storms import stories
from tests.core.test_planner import needs, planned, resident

LIMITS = LineLimits(max_waiting=1000, max_bytes=2**30, max_wait=600.0, box_grace=15.0)
SECONDS = st.sampled_from([0.0, 0.3, 2.0, 10.0])

MODEL = st.builds(
    ModelStatus,
    id=st.just("x"),
    phase=st.sampled_from(Phase),
    in_flight=st.integers(0, 4),
    slots=st.integers(1, 4),
    waiting=st.integers(0, 9),
    routers=st.integers(0, 3),
    load_s=SECONDS,
    eta_s=SECONDS,
    service_s=SECONDS,
    ready_in_s=SECONDS,
    disturbs_s=SECONDS,
)
FLEET = st.lists(MODEL, min_size=1, max_size=4)


def chosen(fleet: Mapping[str, ModelStatus], count: int, where: str) -> list[str]:
    """The boxes that a router chooses for so many requests, one after the other. `where`: how it
    reaches them."""
    line = Line(LIMITS, [where + name for name in fleet])
    for name, model in fleet.items():
        line.knows(where + name, catalogue("x", box=name), 1.0)
        line.heard(where + name, status(model, box=name), 1.0)
    choices = []
    for n in range(count):
        effects = line.arrived(Ticket(f"{where}{n}", "x", 1.0), 1.0)
        choices += [line.boxes[e.box].name for e in effects if isinstance(e, Send)]
        choices.append(line.placed("x") or "")
    return choices


@stories(60)
@given(fleet=FLEET, count=st.integers(1, 6), order=st.randoms(use_true_random=False))
def test_routers_that_know_the_same_choose_the_same(
    fleet: list[ModelStatus], count: int, order: random.Random
) -> None:
    """I9: two routers with equal snapshots choose the same box, however they reach and list
    them."""
    named = {f"box{n}": model for n, model in enumerate(fleet)}
    shuffled = list(named)
    order.shuffle(shuffled)
    here = chosen(named, count, "http://here/")
    there = chosen({name: named[name] for name in shuffled}, count, "http://there/")
    assert here == there


@stories(60)
@given(fleet=FLEET, which=st.integers(0, 3), phase=st.sampled_from([Phase.READY, Phase.STARTING]))
def test_a_box_that_holds_the_model_is_chosen_where_no_other_would_be_sooner(
    fleet: list[ModelStatus], which: int, phase: Phase
) -> None:
    """I9: a box that holds or starts the model comes first, unless another is sooner."""
    cold = [
        replace(model, phase=Phase.IDLE, in_flight=0, ready_in_s=(model.ready_in_s or 0.0) + 2.0)
        for model in fleet
    ]
    holds = replace(cold[which % len(cold)], phase=phase, eta_s=1.0, ready_in_s=1.0, slots=4)
    cold[which % len(cold)] = holds
    named = {f"box{n}": model for n, model in enumerate(cold)}
    assert chosen(named, 1, "")[0] == f"box{which % len(cold)}"


WANT = st.builds(
    Want,
    waiting=st.dictionaries(st.integers(-2, 2), st.integers(1, 3), min_size=1, max_size=2),
    oldest=st.sampled_from([1000.0, 999.0, 950.0, 870.0]),
)


def order_of(wants: Mapping[str, Want], loads: Mapping[str, float]) -> list[str]:
    """In which they come to their turn, where none of them can have it yet."""
    full = resident("pinned", 24, pinned=True)
    need = {model: needs(20, load=loads[model]) for model in wants}
    return [wait.model for wait in planned(full, wants=wants, need=need).waits]


@stories(60)
@given(
    wants=st.dictionaries(st.sampled_from("abcd"), WANT, min_size=2),
    loads=st.fixed_dictionaries({model: st.sampled_from([1.0, 9.0]) for model in "abcd"}),
    which=st.integers(0, 3),
    up=st.integers(1, 3),
)
def test_a_higher_priority_never_moves_a_model_back(
    wants: dict[str, Want], loads: dict[str, float], which: int, up: int
) -> None:
    """I10: for one decision, with everything else equal."""
    model = list(wants)[which % len(wants)]
    want = wants[model]
    raised = Want({priority + up: n for priority, n in want.waiting.items()}, want.oldest)
    before = order_of(wants, loads)
    after = order_of({**wants, model: raised}, loads)
    assert after.index(model) <= before.index(model)


@stories(60)
@given(
    arrivals=st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 5)), min_size=1, max_size=8),
    which=st.integers(0, 7),
    up=st.integers(1, 3),
)
def test_a_higher_priority_never_moves_a_request_back(
    arrivals: Sequence[tuple[int, int]], which: int, up: int
) -> None:
    """I10: among those who wait for the same model."""
    tickets = [Ticket(f"{n}", "x", at, priority) for n, (priority, at) in enumerate(arrivals)]
    one = tickets[which % len(tickets)]
    raised = replace(one, priority=one.priority + up)
    before, after = Queue(), Queue()
    for ticket in tickets:
        before.add(ticket)
        after.add(raised if ticket is one else ticket)
    assert after.index(raised) <= before.index(one)
