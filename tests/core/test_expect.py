from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from router.expect import UNKNOWN_LOAD, UNKNOWN_SERVICE, Expected, expected, served_by
from router.view import BoxView
from shared.status import ModelStatus, Phase, PlanEntry, Switch
from tests.core.said import idle, ready, starting, ticket, view


def of_x(box: BoxView, waiting: int = 1, now: float = 0.0, asked: Iterable[str] = ()) -> Expected:
    return expected(box.of("x") or ModelStatus("x"), box, waiting, now, asked)


def total(box: BoxView, waiting: int = 1, now: float = 0.0) -> float:
    return sum(of_x(box, waiting, now))


# A model that is ready.


@pytest.mark.parametrize(
    ("in_flight", "waiting", "seconds"),
    [(0, 1, 0.0), (0, 4, 0.0), (0, 5, 0.5), (4, 1, 0.5), (4, 8, 4.0), (2, 3, 0.5)],
)
def test_who_waits_for_a_slot_waits_for_those_before_it(
    in_flight: int, waiting: int, seconds: float
) -> None:
    box = view("a", ready("x", slots=4, in_flight=in_flight, service_s=2.0))
    assert of_x(box, waiting) == Expected(0.0, seconds)


def test_what_was_sent_and_released_since_counts_at_once() -> None:
    box = view("a", ready("x", slots=1, in_flight=1, service_s=2.0))
    assert total(box) == 2.0
    box.released(ticket("before"))
    assert total(box) == 0.0
    box.took(ticket("1"))
    assert total(box) == 2.0


def test_an_answer_takes_a_guess_until_one_was_given() -> None:
    assert total(view("a", ready("x", slots=1, in_flight=1))) == UNKNOWN_SERVICE


def test_an_engine_without_slots_serves_as_if_it_had_one() -> None:
    assert total(view("a", ready("x", slots=0, service_s=2.0)), waiting=3) == 6.0


# A model that is starting.


def test_the_rest_of_a_load_is_less_as_time_goes_by() -> None:
    box = view("a", starting("x", ready_in_s=5.0, slots=2, service_s=2.0), now=10.0)
    assert of_x(box, 3, 12.0) == Expected(3.0, 1.0)
    assert total(box, now=99.0) == 0.0


@pytest.mark.parametrize(
    ("says", "seconds"),
    [
        ({"eta_s": 4.0, "load_s": 9.0}, 4.0),
        ({"load_s": 9.0}, 9.0),
        ({}, UNKNOWN_LOAD),
        ({"ready_in_s": 3.0, "eta_s": 4.0}, 3.0),
        ({"ready_in_s": 0.0, "eta_s": 4.0}, 0.0),
    ],
)
def test_a_sidecar_that_does_not_say_when_is_taken_by_its_estimate(
    says: dict[str, Any], seconds: float
) -> None:
    assert total(view("a", starting("x", **says))) == seconds


# A model that is nowhere.


def test_making_room_is_paid_for_and_who_is_beyond_the_slots_waits_longer() -> None:
    box = view("a", idle("x", ready_in_s=5.0, disturbs_s=2.0, slots=2, service_s=4.0))
    assert of_x(box, 2) == Expected(5.0, 0.0, 2.0)
    assert of_x(box, 4) == Expected(5.0, 4.0, 2.0)
    assert total(box, waiting=4) == 11.0


def test_a_load_that_was_asked_for_and_not_told_of_yet_comes_first() -> None:
    box = view("a", idle("x", ready_in_s=5.0), idle("y", load_s=3.0), idle("z"))
    told = of_x(box, asked=["x", "y", "z"])
    assert told == Expected(5.0, 0.0, 0.0, 3.0 + UNKNOWN_LOAD)


def test_a_sidecar_that_does_not_say_when_loads_what_it_plans_before() -> None:
    plan = (
        PlanEntry("start", "y", "first"),
        PlanEntry("wait", "x", "next"),
        PlanEntry("drain", "z", "leaves"),
    )
    models = (idle("x", load_s=2.0), idle("y", load_s=3.0), ready("z", load_s=50.0))
    assert total(view("a", *models)) == 2.0
    assert total(view("a", *models, plan=plan)) == 5.0


@pytest.mark.parametrize(("eta", "seconds"), [(1.5, 1.5), (None, 2.0)])
def test_a_switch_to_it_says_how_long_it_will_take_if_it_knows(
    eta: float | None, seconds: float
) -> None:
    switch = Switch("s", "x", Phase.SWITCHING, None, 1.0, eta_s=eta)
    assert total(view("a", idle("x", load_s=2.0), switches=(switch,))) == seconds


def test_a_model_of_which_a_box_says_nothing_is_taken_by_the_guess() -> None:
    assert total(view("a", idle("y"))) == UNKNOWN_LOAD


# Several copies.


def test_copies_serve_a_line_together_each_at_its_own_pace() -> None:
    fast = view("a", ready("x", slots=3, in_flight=3, service_s=1.0))
    slow = view("b", ready("x", slots=2, in_flight=1, service_s=2.0))
    assert served_by("x", [fast], 6) == 2.0
    assert served_by("x", [fast, slow], 9) == 2.0
    assert served_by("x", [fast, slow], 1) == 0.0
    assert served_by("x", [view("c", ready("x", slots=0))], 2) == 2 * UNKNOWN_SERVICE
