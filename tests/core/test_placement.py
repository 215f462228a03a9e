from __future__ import annotations

import itertools

from router.placement import affinity, candidates, choose
from router.view import BoxView
from shared.status import ModelStatus, Phase
from tests.core.said import idle, load_error, never_fits, ready, starting, view


def keys(boxes: list[BoxView]) -> list[str]:
    return [box.key for box in boxes]


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


def test_a_box_that_holds_the_model_comes_first() -> None:
    boxes = [view("a", idle("x")), view("b", starting("x")), view("c", idle("x"))]
    assert choose("x", boxes, current="a", waiting={"b": 99}).key == "b"


def test_of_those_that_hold_it_the_one_with_most_free_slots_is_chosen() -> None:
    boxes = [view("a", ready("x", slots=2)), view("b", ready("x", slots=3))]
    assert choose("x", boxes, current=None, waiting={}).key == "b"
    assert choose("x", [*boxes, view("c", starting("x"))], None, {}).key == "b"


def test_a_box_that_finishes_and_takes_no_more_does_not_hold_it() -> None:
    leaving = view("a", ModelStatus("x", Phase.SWITCHING))
    assert choose("x", [leaving, view("b", starting("x"))], "a", {}).key == "b"


def test_a_choice_stays_while_it_is_one() -> None:
    boxes = [view("a", idle("x")), view("b", idle("x"))]
    for current in ("a", "b"):
        assert choose("x", boxes, current, waiting={current: 9}).key == current


def test_a_load_that_has_begun_for_us_is_not_left_for_another() -> None:
    boxes = [view("a", starting("x")), view("b", starting("x")), view("c", ready("x", slots=0))]
    for current in ("a", "b"):
        assert choose("x", boxes, current, {}).key == current


def test_with_no_choice_yet_the_box_where_the_fewest_wait_is_chosen() -> None:
    boxes = [view("a", idle("x")), view("b", idle("x"))]
    assert choose("x", boxes, None, waiting={"a": 2, "b": 1}).key == "b"
    assert choose("x", boxes, "gone", waiting={"b": 1}).key == "a"


def test_routers_that_know_the_same_choose_the_same_in_whatever_order_they_list_boxes() -> None:
    for hold in (idle, ready):
        boxes = [view(name, hold("x")) for name in "abcd"]
        chosen = {choose("x", list(o), None, {}).key for o in itertools.permutations(boxes)}
        assert len(chosen) == 1


def test_ties_go_by_the_box_s_own_name_and_not_by_how_a_router_reaches_it() -> None:
    here, there = view("a", idle("x")), BoxView("http://elsewhere", name="a")
    assert affinity("x", here) == affinity("x", there)


def test_models_are_spread_over_equal_boxes() -> None:
    models = [f"m{n}" for n in range(40)]
    boxes = [view(name, *(idle(m) for m in models)) for name in "abc"]
    chosen = [choose(model, boxes, None, {}).key for model in models]
    assert all(chosen.count(name) >= 5 for name in "abc")
