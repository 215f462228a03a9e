from __future__ import annotations

from typing import Any

import pytest

from router.models import Load, context_of, holders, load_of
from router.view import BoxView
from shared.status import Catalogue, ModelFacts, ModelStatus, Phase, Switch
from tests.core.said import idle, load_error, never_fits, ready, starting, view


def switch_to(model: str) -> Switch:
    return Switch("s-1", model, Phase.STOPPING, None, elapsed_s=1.0, from_=("y",))


def lost(key: str, *models: ModelStatus, **more: Any) -> BoxView:
    box = view(key, *models, **more)
    box.lose(1.0)
    return box


@pytest.mark.parametrize("phase", [Phase.READY, Phase.SWITCHING])
def test_a_model_whose_engine_is_up_is_loaded_also_while_it_drains(phase: Phase) -> None:
    box = view("a", ModelStatus("x", phase))
    assert load_of("x", [box]) == Load("loaded")
    assert holders("x", [box]) == [box]


def test_one_box_that_holds_it_is_enough() -> None:
    boxes = [view("a", idle("x", load_error(1.0))), view("b", ready("x")), view("c", starting("x"))]
    assert load_of("x", boxes) == Load("loaded")
    assert holders("x", boxes) == [boxes[1]]


def test_a_starting_model_is_loading_as_far_as_its_engine_reports() -> None:
    assert load_of("x", [view("a", starting("x"))]) == Load("loading")
    assert load_of("x", [view("a", starting("x", progress=0.25))]) == Load("loading", 0.25)


def test_what_loads_took_before_is_no_progress_of_this_one() -> None:
    """Those who read it have no field in which to see that it is an estimate."""
    guessed = view("a", starting("x", progress=0.75, progress_source="history"))
    told = view("b", starting("x", progress=0.25, progress_source="engine"))
    assert load_of("x", [guessed]) == Load("loading")
    assert load_of("x", [guessed, told]) == Load("loading", 0.25)


def test_of_two_loads_the_one_that_is_further_is_told() -> None:
    boxes = [view(key, starting("x", progress=far)) for key, far in (("a", 0.2), ("b", 0.5))]
    assert load_of("x", [*boxes, view("c", starting("x"))]) == Load("loading", 0.5)


def test_a_model_for_which_others_make_room_is_loading_without_progress() -> None:
    boxes = [view("a", idle("x"), ready("y"), switches=(switch_to("x"),))]
    assert load_of("x", boxes) == Load("loading")
    assert load_of("y", boxes) == Load("loaded")


@pytest.mark.parametrize("error", [load_error(1.0), never_fits()])
def test_a_model_with_an_error_and_nothing_under_way_has_failed(error: Any) -> None:
    assert load_of("x", [view("a", idle("x", error)), view("b", idle("x"))]) == Load("failed")


def test_a_new_load_makes_the_last_failure_old() -> None:
    boxes = [view("a", idle("x", load_error(1.0))), view("b", starting("x"))]
    assert load_of("x", boxes) == Load("loading")


def test_a_lost_box_holds_and_loads_nothing() -> None:
    boxes = [
        lost("a", ready("x")),
        lost("b", starting("x", progress=0.5)),
        lost("c", idle("x", load_error(1.0))),
        lost("d", idle("x"), switches=(switch_to("x"),)),
    ]
    assert load_of("x", boxes) == Load("unloaded")
    assert holders("x", boxes) == []


def test_what_no_box_reports_is_unloaded() -> None:
    assert load_of("x", [BoxView("k", name="k"), view("a", ready("y"))]) == Load("unloaded")
    assert load_of("x", []) == Load("unloaded")


def test_the_context_is_what_every_box_can_give() -> None:
    def box(length: int | None) -> BoxView:
        known = BoxView("k", name="k")
        facts = ModelFacts("x", "command", "x", context_length=length, slots=1)
        known.know(Catalogue("k", "b1", (facts,)))
        return known

    assert context_of("x", [box(8192), box(None), box(4096)]) == 4096
    assert context_of("x", [box(None)]) is None
