"""I7: what routers say may come twice, late or never: the box decides by what is newest."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import hypothesis.strategies as st
from hypothesis import given

from shared.demand import Demand, ModelDemand
from shared.status import Phase
from sidecar.demand import Demands
from sidecar.plan import Candidate, Facts, Resident, Rules
from sidecar.planner import plan
from tests.core.storms import stories

MODELS = ["a", "b", "c"]
CANDIDATES = {"a": 8, "b": 4, "c": 6}  # bytes of the eight that there are
RESIDENT = Resident("a", Phase.READY, {"gpu0": 8}, 0, slots=4, ready_at=0.0, last_used=0.0)
NOW = 100.0

WANTED = st.builds(
    ModelDemand,
    waiting=st.dictionaries(st.integers(-1, 1), st.integers(0, 3), max_size=2),
    oldest_s=st.sampled_from([0.0, 0.5, 5.0, 50.0]),
    sent=st.integers(0, 9),
)
SAID = st.lists(st.dictionaries(st.sampled_from([*MODELS, "unknown"]), WANTED), max_size=5)
Message = tuple[str, Demand]


def messages(
    router: str, said: Sequence[dict[str, ModelDemand]], ttl: float = 3.0
) -> list[Message]:
    """As this router sends them; `sent` only grows."""
    sent: dict[str, int] = {}
    told: list[Message] = []
    for seq, models in enumerate(said, start=1):
        for model, wanted in models.items():
            sent[model] = sent.get(model, 0) + wanted.sent
        whole = {m: ModelDemand(w.waiting, w.oldest_s, sent[m]) for m, w in models.items()}
        told.append((router, Demand(1, seq, ttl, whole)))
    return told


def told(stream: Sequence[Message], now: float = NOW) -> Demands:
    demands = Demands(frozenset(MODELS))
    for router, demand in stream:
        demands.heard(router, demand, now)
    return demands


def outcome(demands: Demands, now: float = NOW) -> object:
    """All that a box reads from its demand, and what it decides by it."""
    wants, due = demands.wants(lambda _: -math.inf), demands.due(now)
    decided = plan(
        Facts(
            now,
            capacity={"gpu0": 8},
            candidates={m: Candidate(({"gpu0": CANDIDATES[m]},), load_s=2.0) for m in wants},
            residents={"a": RESIDENT},
            wants=wants,
            due=due,
            claims=(),
            rules=Rules(patience=120.0),
        )
    )
    return wants, due, demands.deadline(now), decided


@stories(40)
@given(r=SAID, s=SAID)
def test_demand_that_comes_twice_counts_once(
    r: list[dict[str, ModelDemand]], s: list[dict[str, ModelDemand]]
) -> None:
    """I7: demand is idempotent."""
    stream = [*messages("r", r), *messages("s", s)]
    assert outcome(told([m for m in stream for _ in range(2)])) == outcome(told(stream))


@stories(40)
@given(r=SAID, s=SAID, order=st.randoms(use_true_random=False))
def test_in_whatever_order_routers_are_heard_the_box_decides_the_same(
    r: list[dict[str, ModelDemand]], s: list[dict[str, ModelDemand]], order: random.Random
) -> None:
    """I7: demand commutes between routers."""
    left = {"r": messages("r", r), "s": messages("s", s)}
    turns = [router for router, stream in left.items() for _ in stream]
    order.shuffle(turns)
    one_after_the_other = [*left["r"], *left["s"]]
    mixed = [left[router].pop(0) for router in turns]
    assert outcome(told(mixed)) == outcome(told(one_after_the_other))


@stories(40)
@given(said=SAID, order=st.randoms(use_true_random=False))
def test_whatever_comes_late_the_newest_message_is_what_counts(
    said: list[dict[str, ModelDemand]], order: random.Random
) -> None:
    """I7: an old `seq` changes nothing of who waits."""
    stream = messages("r", said)
    shuffled = list(stream)
    order.shuffle(shuffled)
    wants = told(shuffled).wants(lambda _: -math.inf)
    assert wants == told(stream[-1:]).wants(lambda _: -math.inf)


@stories(40)
@given(r=SAID, s=SAID, until=st.integers(0, 10), later=st.sampled_from([0.0, 0.1, 1.0]))
def test_a_story_told_again_from_its_beginning_changes_no_plan(
    r: list[dict[str, ModelDemand]], s: list[dict[str, ModelDemand]], until: int, later: float
) -> None:
    """I7: replaying any prefix of the messages gives the same plan."""
    stream = [*messages("r", r), *messages("s", s)]
    once, again = told(stream), told(stream)
    for router, demand in stream[:until]:
        assert not again.heard(router, demand, NOW + later)
    assert outcome(again, NOW + later) == outcome(once, NOW + later)


@stories(40)
@given(r=SAID, s=SAID)
def test_a_router_that_was_silent_for_its_time_might_never_have_been(
    r: list[dict[str, ModelDemand]], s: list[dict[str, ModelDemand]]
) -> None:
    """I7: a router that is silent for its `ttl_s` leaves no trace."""
    silent, other = messages("r", r, ttl=3.0), messages("s", s, ttl=9.0)
    both, alone = told([*silent, *other]), told(other)
    assert both.forget_silent(NOW + 3.0) == bool(silent)
    assert outcome(both, NOW + 3.0) == outcome(alone, NOW + 3.0)
