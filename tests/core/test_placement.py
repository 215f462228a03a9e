from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.placement import (
    Decision,
    affinity,
    candidates,
    decide,
    least_taken,
    offers,
    untried,
)
from router.view import BoxView
from shared.status import ModelStatus, Phase
from tests.core.said import idle, load_error, never_fits, ready, starting, ticket, view

NOBODY: Mapping[str, float] = {}
CRASHED = load_error(1000.0, cause="crashed")


def keys(boxes: list[BoxView]) -> list[str]:
    return [box.key for box in boxes]


def decision(
    *boxes: BoxView, waiting: int = 1, asked: Mapping[str, float] = NOBODY, now: float = 9.0
) -> Decision:
    """`asked`: since when each box is."""
    return decide("x", offers("x", boxes, waiting, now), waiting, asked, now)


def chosen(*boxes: BoxView, waiting: int = 1, asked: Mapping[str, float] = NOBODY) -> list[str]:
    return [box.key for box in decision(*boxes, waiting=waiting, asked=asked).boxes]


# Who may serve it.


def test_a_candidate_is_live_and_has_the_model() -> None:
    lost = view("lost", ready("x"))
    lost.lose(1.0)
    boxes = [view("a", idle("x")), view("b", idle("y")), lost, BoxView("new", name="new")]
    assert keys(candidates("x", boxes, now=2.0)) == ["a"]


def test_a_box_that_can_never_hold_it_is_no_candidate() -> None:
    assert candidates("x", [view("a", idle("x", never_fits()))], now=1e9) == []


def test_a_box_that_backs_off_is_a_candidate_again_when_its_time_is_up() -> None:
    box = view("a", idle("x", load_error(1000.0, retry_in_s=10.0)), now=5.0)
    assert candidates("x", [box], now=14.9) == []
    assert candidates("x", [box], now=15.0) == [box]


def test_a_box_that_starts_it_by_hand_is_a_candidate_although_it_backs_off() -> None:
    box = view("a", starting("x", error=load_error(1000.0, retry_in_s=10.0)))
    assert candidates("x", [box], now=1.0) == [box]


def test_a_load_that_failed_is_not_tried_there_again_for_those_who_saw_it_fail() -> None:
    boxes = [view("a", idle("x", load_error(990.0)), now=50.0), view("b", idle("x"))]
    assert keys(untried("x", boxes, arrived=40.0)) == ["b"]
    assert keys(untried("x", boxes, arrived=41.0)) == ["a", "b"]


# A load that would fail anywhere.


def free(box: str) -> BoxView:
    """It takes the model and nobody must leave."""
    return view(box, idle("x", ready_in_s=1.0))


def full(box: str) -> BoxView:
    """Somebody must leave for it."""
    return view(box, idle("x", ready_in_s=1.0, disturbs_s=0.1))


def failing(box: str, disturbs: float = 0.0) -> BoxView:
    return view(box, idle("x", CRASHED, ready_in_s=1.0, disturbs_s=disturbs))


def test_it_is_tried_where_it_has_failed_and_where_nobody_must_leave() -> None:
    boxes = [failing("a", disturbs=1.0), free("b"), full("c"), view("d", idle("x"))]
    assert keys(candidates("x", boxes, 9.0)) == ["a", "b"]


def test_it_is_tried_on_one_further_box_and_on_no_third() -> None:
    assert keys(candidates("x", [failing("a"), failing("b"), free("c")], 9.0)) == ["a", "b"]


def test_no_more_than_one_box_is_ever_emptied_for_it() -> None:
    boxes = [failing(box, disturbs=1.0) for box in "abc"]
    (home,) = candidates("x", boxes, 9.0)
    assert home.key == min(boxes, key=lambda box: affinity("x", box)).key


def test_a_box_that_holds_it_all_the_same_may_serve_it() -> None:
    boxes = [failing("a"), failing("b"), view("c", ready("x")), view("d", starting("x"))]
    assert keys(candidates("x", boxes, 9.0)) == ["a", "b", "c", "d"]


def test_once_it_is_loaded_it_may_be_loaded_anywhere() -> None:
    again = view("a", ready("x", error=CRASHED))
    assert keys(candidates("x", [again, full("b")], 9.0)) == ["a", "b"]


def test_a_box_that_is_lost_says_nothing_of_what_would_fail_anywhere() -> None:
    lost = failing("a")
    lost.lose(5.0)
    assert keys(candidates("x", [lost, full("b")], 9.0)) == ["b"]


def test_a_load_that_failed_for_a_cause_of_its_box_may_be_tried_everywhere() -> None:
    boxes = [view("a", idle("x", load_error(1000.0))), full("b"), full("c")]
    assert keys(candidates("x", boxes, 9.0)) == ["a", "b", "c"]


# Who should.


def test_the_box_is_told_that_will_serve_soonest_what_it_costs_others_included() -> None:
    boxes = [
        view("a", idle("x", ready_in_s=5.0)),
        view("b", idle("x", ready_in_s=4.0, disturbs_s=2.0)),
        view("c", idle("x", ready_in_s=4.5)),
    ]
    assert chosen(*boxes) == ["c"]


def test_a_box_that_holds_the_model_comes_first_whatever_another_needs() -> None:
    boxes = [view("a", idle("x", ready_in_s=1.0)), view("b", starting("x", ready_in_s=50.0))]
    assert chosen(*boxes, asked={"a": 8.9}) == ["b"]


def test_of_those_that_hold_it_the_one_that_serves_the_last_first_is_told() -> None:
    boxes = [
        view("a", ready("x", slots=2, in_flight=2, service_s=2.0)),
        view("b", ready("x", slots=4, in_flight=4, service_s=2.0)),
    ]
    assert chosen(*boxes, waiting=4) == ["b"]


def test_a_box_that_finishes_and_takes_no_more_does_not_hold_it() -> None:
    leaving = view("a", ModelStatus("x", Phase.SWITCHING, ready_in_s=0.1))
    assert chosen(leaving, view("b", starting("x")), asked={"a": 0.0}) == ["b"]


def test_a_choice_stays_unless_another_is_much_better_and_it_is_settled() -> None:
    slow = view("a", idle("x", ready_in_s=10.0))
    little, much = view("b", idle("x", ready_in_s=9.1)), view("b", idle("x", ready_in_s=8.9))
    assert chosen(slow, much) == ["b"]
    assert chosen(slow, little, asked={"a": 0.0}) == ["a"]
    assert chosen(slow, much, asked={"a": 0.0}) == ["b"]
    assert chosen(slow, much, asked={"a": 8.1}) == ["a"], "younger than a second"
    assert chosen(slow, much, asked={"gone": 0.0}) == ["b"]


def test_two_that_cost_nothing_are_no_reason_to_move() -> None:
    for current in "ab":
        boxes = [view(box, ready("x")) for box in "ab"]
        assert chosen(*boxes, asked={current: 0.0}) == [current]


def test_routers_that_know_the_same_choose_the_same_in_whatever_order_they_list_boxes() -> None:
    for hold in (idle, ready):
        boxes = [view(name, hold("x")) for name in "abcd"]
        assert len({tuple(chosen(*order)) for order in itertools.permutations(boxes)}) == 1


def test_what_differs_by_less_than_a_millisecond_is_the_same() -> None:
    for name in "ab":
        other = "b" if name == "a" else "a"
        boxes = [
            view(name, idle("x", ready_in_s=2.0001)),
            view(other, idle("x", ready_in_s=2.0004)),
        ]
        assert chosen(*boxes) == chosen(*(view(box, idle("x", ready_in_s=2.0)) for box in "ab"))


def test_ties_go_by_the_box_s_own_name_and_not_by_how_a_router_reaches_it() -> None:
    here, there = view("a", idle("x")), BoxView("http://elsewhere", name="a")
    assert affinity("x", here) == affinity("x", there)


def test_models_are_spread_over_equal_boxes() -> None:
    models = [f"m{n}" for n in range(40)]
    boxes = [view(name, *(idle(m) for m in models)) for name in "abc"]
    first = [decide(m, offers(m, boxes, 1, 0.0), 1, NOBODY, 0.0).first.box.key for m in models]
    assert all(first.count(name) >= 5 for name in "abc")


# Further copies.


def hot(box: str, **more: float) -> BoxView:
    """Its one slot is taken for a second at a time."""
    return view(box, ready("x", slots=1, in_flight=1, service_s=1.0, **more))


def cold(box: str, seconds: float) -> BoxView:
    return view(box, idle("x", ready_in_s=seconds, slots=1, service_s=1.0))


def test_a_copy_is_wanted_when_the_last_waits_for_more_than_half_of_what_it_needs() -> None:
    boxes = [hot("a"), cold("b", 10.0), cold("c", 8.0)]
    assert chosen(*boxes, waiting=4) == ["a"]
    assert chosen(*boxes, waiting=5) == ["a", "c"]
    assert not decision(*boxes, waiting=4).wants_copy
    assert decision(*boxes, waiting=5).wants_copy


def test_the_copies_there_are_counted_together_and_all_of_them_are_told() -> None:
    boxes = [hot("a"), hot("b"), cold("c", 8.0)]
    assert len(chosen(*boxes, waiting=8)) == 1
    assert sorted(chosen(*boxes, waiting=9)) == ["a", "b", "c"]


def test_while_a_copy_is_starting_no_other_box_is_asked() -> None:
    start = view("b", starting("x", ready_in_s=29.0))
    assert sorted(chosen(hot("a"), start, cold("c", 1.0), waiting=11)) == ["a", "b"]  # in 20 s
    assert chosen(hot("a"), start, cold("c", 1.0), waiting=3) == ["a"]
    assert chosen(start, cold("c", 1.0), waiting=1000) == ["b"], "none is ready yet"


def test_the_box_that_was_asked_for_a_copy_stays_the_one() -> None:
    boxes = [hot("a"), cold("b", 10.0), cold("c", 9.5)]
    assert chosen(*boxes, waiting=9, asked={"a": 0.0, "b": 0.0}) == ["a", "b"]
    much = [hot("a"), cold("b", 10.0), cold("c", 8.0)]
    assert chosen(*much, waiting=9, asked={"a": 0.0, "b": 0.0}) == ["a", "c"]
    assert chosen(*much, waiting=9, asked={"a": 0.0, "b": 8.5}) == ["a", "b"]


def test_with_copies_everywhere_there_is_none_to_want() -> None:
    assert not decision(hot("a"), hot("b"), waiting=1000).wants_copy


# Load is balanced.


def test_the_lowest_share_of_taken_slots_serves_and_not_the_most_free_ones() -> None:
    few = view("a", ready("x", slots=4, in_flight=1))
    many = view("b", ready("x", slots=10, in_flight=5))
    assert least_taken("x", [few, many]) is few
    few.took(ticket("1"))
    few.took(ticket("2"))
    assert least_taken("x", [few, many]) is many


def test_who_has_no_free_slot_serves_nobody() -> None:
    none = view("a", ready("x", slots=0))
    assert least_taken("x", [none, view("b", ready("x", slots=1, in_flight=1))]) is None
    assert none.share_taken("x") == 1.0


def test_equal_shares_are_told_apart_by_the_hash_alone() -> None:
    boxes = [view(name, ready("x")) for name in "abcd"]
    found = {box.key for order in itertools.permutations(boxes) if (box := least_taken("x", order))}
    assert found == {min(boxes, key=lambda box: affinity("x", box)).key}


# In general.

SECONDS = st.floats(0.0, 30.0)
MODELS = st.one_of(
    st.builds(idle, st.just("x"), ready_in_s=SECONDS, disturbs_s=SECONDS, slots=st.just(4)),
    st.builds(starting, st.just("x"), ready_in_s=SECONDS, slots=st.just(4)),
    st.builds(ready, st.just("x"), in_flight=st.integers(0, 4), service_s=st.floats(0.01, 5.0)),
)
FLEETS = st.lists(MODELS, min_size=1, max_size=6)


@given(FLEETS, st.integers(1, 500))
def test_equal_snapshots_are_equal_choices_and_who_holds_it_comes_first(
    fleet: list[ModelStatus], waiting: int
) -> None:
    """The choice costs no more than any of its class, by the margin at most."""
    boxes = [view(f"box{n}", model) for n, model in enumerate(fleet)]
    one = decision(*boxes, waiting=waiting)
    same = [view(f"box{n}", model) for n, model in reversed(list(enumerate(fleet)))]
    other = decision(*same, waiting=waiting)
    assert other.boxes[0].key == one.boxes[0].key
    assert {box.key for box in other.boxes} == {box.key for box in one.boxes}
    among = offers("x", boxes, waiting, 9.0)
    rivals = [o for o in among if o.holds] or among
    assert one.first.holds == any(o.holds for o in among)
    assert one.first.total <= min(o.total for o in rivals) + 0.001
    new = [box for box in one.boxes if not box.holds("x")]
    assert len(new) <= 1, "one box is told, never all"


@given(FLEETS, st.integers(1, 4))
def test_a_line_that_the_free_slots_can_take_never_makes_a_copy(
    fleet: list[ModelStatus], waiting: int
) -> None:
    boxes = [view(f"box{n}", model) for n, model in enumerate(fleet)]
    boxes.append(view("ready", ready("x", slots=4, in_flight=4 - waiting)))
    assert not decision(*boxes, waiting=waiting).wants_copy


@pytest.mark.parametrize("seconds", [0.5, 5.0, 50.0])
def test_the_longer_the_line_the_more_copies_until_every_box_has_one(seconds: float) -> None:
    """As if each copy were ready at once."""
    copies = []
    for waiting in (1, 10, 100, 1000, 10_000):
        ready_on = ["a"]
        while True:
            boxes = [hot(b) if b in ready_on else cold(b, seconds) for b in "abcd"]
            new = [b for b in chosen(*boxes, waiting=waiting) if b not in ready_on]
            if not new:
                break
            ready_on += new
        copies.append(len(ready_on))
    assert copies == sorted(copies)
    assert copies[-1] == 4
    if seconds > 2.0:
        assert copies[0] == 1
