"""The line: what those are told who wait."""

from __future__ import annotations

from typing import Any

import pytest

from router.effects import Effect, News
from shared.status import Phase, PlanEntry, Step, Switch
from tests.core.lines import new_line, says
from tests.core.said import idle, ready, starting, ticket

TO_X = Switch("s-1", "x", Phase.SWITCHING, Step.DRAINING, 1.0, ("y",), 0.1, "engine", 5.0, "size")


def changed(**change: Any) -> Switch:
    fields = {name: getattr(TO_X, name) for name in TO_X.__slots__}
    return Switch(**fields | change)


def news_of(*switches: Switch, seq: int = 3) -> list[Effect]:
    line = new_line()
    says(line, "a", idle("x"))
    assert line.arrived(ticket("1"), 1.0) == [News("x")]
    assert says(line, "a", idle("x"), seq=2, switches=(TO_X,)) == [News("x")]
    return says(line, "a", idle("x"), seq=seq, now=9.0, at=1009.0, switches=switches)


def test_numbers_alone_are_no_news() -> None:
    same = changed(elapsed_s=9.0, progress=0.9, progress_source="io", eta_s=None)
    assert news_of(same) == []


@pytest.mark.parametrize(
    "change",
    [{"phase": Phase.STOPPING}, {"step": Step.STOPPING}, {"from_": ("y", "z")}, {"from_": ()}],
)
def test_a_change_of_phase_step_or_models_is_news(change: dict[str, Any]) -> None:
    assert news_of(changed(**change)) == [News("x")]
    assert news_of() == [News("x")]


def test_another_box_is_news() -> None:
    line = new_line("ab")
    says(line, "a", starting("x"))
    line.arrived(ticket("1"), 1.0)
    says(line, "b", starting("x"))
    assert line.placed("x") == "a"
    assert line.lost("a", 2.0) == [News("x")]
    assert line.tell(ticket("1"), 3.0).box == "b"


def test_only_those_who_wait_for_the_model_have_news() -> None:
    line = new_line()
    says(line, "a", idle("x"), idle("y"))
    line.arrived(ticket("1", "x"), 1.0)
    line.arrived(ticket("2", "y"), 1.0)
    assert says(line, "a", idle("x"), idle("y"), seq=2, switches=(TO_X,)) == [News("x")]


def test_the_second_in_line_is_no_news_for_the_first() -> None:
    line = new_line()
    says(line, "a", idle("x"))
    assert line.arrived(ticket("1"), 1.0) == [News("x")]
    assert line.arrived(ticket("2"), 2.0) == []


def test_for_who_comes_after_all_have_left_it_is_news_again() -> None:
    line = new_line()
    says(line, "a", idle("x"))
    line.arrived(ticket("1"), 1.0)
    line.left(ticket("1"), 2.0)
    assert line.arrived(ticket("2"), 3.0) == [News("x")]


def test_the_place_counts_those_ahead_in_the_queue_and_in_the_plan() -> None:
    line = new_line("a", "wxyz")
    models = tuple(map(idle, "wxyz"))
    says(line, "a", *models)
    for n, model in enumerate("wwxyyy"):
        line.arrived(ticket(f"{model}{n}", model, arrived=n), 6.0)
    line.arrived(ticket("x6", "x", arrived=6), 6.0)
    plan = (
        PlanEntry("drain", "w", "leaves"),
        PlanEntry("start", "y", "first"),
        PlanEntry("start", "z", "nobody of ours"),
        PlanEntry("wait", "x", "next"),
    )
    says(line, "a", *models, seq=2, plan=plan)
    assert line.tell(ticket("y3", "y", arrived=3), 7.0).position == 1
    assert line.tell(ticket("x2", "x", arrived=2), 7.0).position == 3 + 1
    assert line.tell(ticket("x6", "x", arrived=6), 7.0).position == 3 + 2
    w1 = line.tell(ticket("w1", "w", arrived=1), 7.0)
    assert w1.position == 3 + 2 + 2, "not planned yet, so after all that is"


def test_before_there_is_a_plan_the_place_goes_by_age() -> None:
    line = new_line("a", "wx")
    says(line, "a", idle("w"), idle("x"))
    line.arrived(ticket("1", "x", arrived=1.0), 1.0)
    line.arrived(ticket("2", "w", arrived=2.0), 2.0)
    assert line.tell(ticket("1", "x", arrived=1.0), 3.0).position == 1
    assert line.tell(ticket("2", "w", arrived=2.0), 3.0).position == 2


def test_who_waits_for_what_is_loaded_comes_before_who_waits_for_a_load() -> None:
    line = new_line("a", "wx")
    says(line, "a", ready("w", slots=1, in_flight=1), idle("x"))
    line.arrived(ticket("1", "x", arrived=1.0), 1.0)
    line.arrived(ticket("2", "w", arrived=2.0), 2.0)
    assert line.tell(ticket("2", "w", arrived=2.0), 3.0).position == 1
    assert line.tell(ticket("1", "x", arrived=1.0), 3.0).position == 2


def test_while_no_box_can_be_asked_the_place_is_that_in_the_queue() -> None:
    line = new_line()
    one = ticket("1", arrived=1.0)
    line.arrived(one, 1.0)
    tell = line.tell(one, 4.0)
    assert (tell.phase, tell.step, tell.box, tell.position) == (
        Phase.IDLE,
        "waiting for its box",
        None,
        1,
    )
    assert tell.elapsed_s == 3.0
    assert line.placed("x") is None


def test_who_is_served_is_told_where() -> None:
    line = new_line()
    says(line, "a", ready("x"))
    line.arrived(ticket("1"), 1.0)
    tell = line.tell(ticket("1"), 2.0)
    assert (tell.phase, tell.box, tell.position) == (Phase.READY, "a", 1)
