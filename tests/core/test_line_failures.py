"""The line: loads that fail, and whom that answers."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from router.line import Line
from shared.errors import LoadFailed
from tests.core.lines import errors, failed, ids, new_line, says
from tests.core.said import idle, load_error, never_fits, starting, ticket


def test_a_failed_load_fails_exactly_those_who_came_before_it() -> None:
    line = new_line()
    says(line, "a", starting("x"))
    for n in (10.0, 20.0, 30.0):
        line.arrived(ticket(f"at {n:.0f}", arrived=n), n)
    effects = says(line, "a", idle("x", load_error(at=995.0)), seq=2, at=1000.0, now=28.0)
    assert failed(effects) == {"at 10": "load_failed", "at 20": "load_failed"}
    error = errors(effects)[0]
    assert isinstance(error, LoadFailed)
    assert error.more == {"cause": "vram_oom", "log_tail": ["last", "words"]}
    assert error.retry_after is None
    assert ids(line) == ["at 30"]
    assert line.placed("x") == "a", "who came later is a new try"


def test_a_load_that_failed_long_ago_fails_nobody() -> None:
    line = new_line()
    says(line, "a", idle("x", load_error(at=900.0)), at=1000.0, now=5.0)
    assert failed(line.arrived(ticket("1", arrived=6.0), 6.0)) == {}
    assert failed(line.tick(7.0)) == {}


def test_a_failed_load_fails_nobody_while_another_box_holds_the_model() -> None:
    line = new_line("ab")
    says(line, "a", starting("x"))
    line.arrived(ticket("1", arrived=1.0), 1.0)
    says(line, "b", starting("x"))
    assert failed(says(line, "a", idle("x", load_error(at=1000.0)), seq=2, now=5.0)) == {}
    assert line.placed("x") == "b"


def test_a_load_that_failed_for_want_of_memory_is_tried_on_each_other_box() -> None:
    line = new_line("abc")
    for box in "abc":
        says(line, box, idle("x"))
    effects = line.arrived(ticket("1", arrived=1.0), 1.0)
    tried = []
    for now in (2.0, 3.0, 4.0):
        assert failed(effects) == {}
        (box,) = line.asked("x")
        tried.append(box)
        effects = says(line, box, idle("x", load_error(at=999.0)), seq=2, now=now)
    assert sorted(tried) == ["a", "b", "c"]
    assert failed(effects) == {"1": "load_failed"}


@pytest.mark.parametrize("cause", ["file_missing", "bad_flag", "crashed"])
def test_a_load_that_would_fail_anywhere_is_tried_on_one_further_box(cause: str) -> None:
    line = new_line("abc")
    for box in "abc":
        says(line, box, idle("x", ready_in_s=1.0))
    line.arrived(ticket("1", arrived=1.0), 1.0)
    for now, ended in ((2.0, {}), (3.0, {"1": "load_failed"})):
        (box,) = line.asked("x")
        error = load_error(at=999.0, cause=cause)
        effects = says(line, box, idle("x", error, ready_in_s=1.0), seq=2, now=now)
        assert failed(effects) == ended


@pytest.mark.parametrize("costs", [{"ready_in_s": 1.0, "disturbs_s": 0.1}, {"ready_in_s": None}])
def test_nobody_leaves_another_box_for_a_load_that_would_fail_anywhere(
    costs: dict[str, Any],
) -> None:
    line = new_line("ab")
    says(line, "a", starting("x"))
    says(line, "b", idle("x", **costs))
    line.arrived(ticket("1", arrived=1.0), 1.0)
    error = load_error(at=1000.0, cause="crashed")
    assert failed(says(line, "a", idle("x", error), seq=2, now=2.0)) == {"1": "load_failed"}
    line.arrived(ticket("2", arrived=3.0), 3.0)
    assert line.asked("x") == ["a"], "who comes later is a new try, where it has failed"


def test_who_came_after_one_failure_is_answered_by_the_next_and_not_by_that() -> None:
    line = new_line("ab")
    says(line, "a", starting("x"))
    says(line, "b", idle("x", ready_in_s=9.0))
    line.arrived(ticket("1", arrived=1.0), 1.0)
    says(line, "a", idle("x", load_error(at=1000.0), ready_in_s=9.0), seq=2, now=2.0)
    assert line.asked("x") == ["b"]
    line.arrived(ticket("2", arrived=3.0), 3.0)
    effects = says(line, "b", idle("x", load_error(at=1000.0), ready_in_s=9.0), seq=2, now=4.0)
    assert failed(effects) == {"1": "load_failed"}
    assert line.asked("x") == ["a"], "for who came after it had failed there"
    effects = says(line, "a", idle("x", load_error(at=1000.0), ready_in_s=9.0), seq=3, now=5.0)
    assert failed(effects) == {"2": "load_failed"}


def calls_of_an_arrival(line: Line, id: str) -> int:
    """How many functions it takes."""
    events: list[str] = []
    sys.setprofile(lambda frame, event, arg: events.append(event))
    try:
        line.arrived(ticket(id, arrived=5.0), 5.0)
    finally:
        sys.setprofile(None)
    return events.count("call")


def test_while_a_load_has_failed_elsewhere_an_arrival_costs_the_same_however_many_wait() -> None:
    line = new_line("ab", max_waiting=1000)
    says(line, "a", idle("x", load_error(at=1000.0)), now=1.0)
    says(line, "b", starting("x"), now=1.0)
    line.arrived(ticket("0", arrived=0.5), 1.0)
    few = calls_of_an_arrival(line, "1")
    for n in range(2, 500):
        line.arrived(ticket(str(n), arrived=2.0), 2.0)
    assert calls_of_an_arrival(line, "500") < few + 50, "a search in order takes some more"
    assert line.count() == len(ids(line)) == 501


@pytest.mark.parametrize("started", ["ab", "ba"])
def test_of_several_failures_the_newest_is_told(started: str) -> None:
    line = new_line("ab")
    for box in started:
        says(line, box, starting("x"))
    line.arrived(ticket("1", arrived=1.0), 1.0)
    says(line, "a", idle("x", load_error(at=1000.0)), seq=2, now=2.0)
    effects = says(line, "b", idle("x", load_error(at=1000.0, cause="timeout")), seq=2, now=3.0)
    assert [error.more["cause"] for error in errors(effects)] == ["timeout"]


def test_a_failed_load_by_others_fails_nobody_who_waits_for_another_box() -> None:
    line = new_line("ab")
    says(line, "a", idle("x"))
    line.arrived(ticket("1", arrived=1.0), 1.0)
    assert failed(says(line, "b", idle("x", load_error(at=1000.0)), now=5.0)) == {}
    assert line.placed("x") == "a"


def test_a_back_off_answers_at_once_and_says_when_to_come_back() -> None:
    line = new_line()
    says(line, "a", idle("x", load_error(at=1000.0, retry_in_s=20.0)), now=5.0)
    (error,) = errors(line.arrived(ticket("1", arrived=10.0), 10.0))
    assert error.code == "load_failed"
    assert error.retry_after is not None
    assert 15.0 <= error.retry_after <= 15.0 * 1.4
    assert error.more["cause"] == "vram_oom"
    assert failed(line.arrived(ticket("2", arrived=25.0), 25.0)) == {}


def test_of_several_boxes_that_back_off_the_first_to_try_again_is_told() -> None:
    line = new_line("abc")
    says(line, "a", idle("x", load_error(at=1000.0, retry_in_s=90.0)))
    says(line, "b", idle("x", load_error(at=1000.0, retry_in_s=20.0)))
    says(line, "c", idle("x", never_fits()))
    (error,) = errors(line.arrived(ticket("1", arrived=10.0), 10.0))
    assert error.code == "load_failed"
    assert error.retry_after is not None
    assert 10.0 <= error.retry_after <= 14.0


def test_those_who_are_sent_away_by_a_rest_do_not_come_back_together() -> None:
    line = new_line()
    says(line, "a", idle("x", load_error(at=1000.0, retry_in_s=100.0)))
    sent = [errors(line.arrived(ticket(str(n)), 1.0)) for n in range(50)]
    told = [error.retry_after for (error,) in sent if error.retry_after is not None]
    assert min(told) >= 99.0  # before that it would be of no use
    assert max(told) - min(told) > 30.0


def test_a_model_that_fits_on_no_box_is_refused_with_the_sum() -> None:
    line = new_line()
    says(line, "a", idle("x", never_fits("x needs 9, box a has 8")))
    (error,) = errors(line.arrived(ticket("1"), 1.0))
    assert (error.code, error.status) == ("does_not_fit", 409)
    assert str(error) == "x needs 9, box a has 8"


def test_a_model_that_fits_on_another_box_is_placed_there() -> None:
    line = new_line("ab")
    says(line, "a", idle("x", never_fits()))
    says(line, "b", idle("x"))
    assert failed(line.arrived(ticket("1"), 1.0)) == {}
    assert line.placed("x") == "b"


def test_a_model_that_may_fit_on_a_box_that_is_away_is_not_called_impossible() -> None:
    line = new_line("ab")
    says(line, "a", idle("x", never_fits()))
    says(line, "b", idle("x"))
    line.lost("b", 10.0)
    assert failed(line.arrived(ticket("1", arrived=11.0), 11.0)) == {}
    (error,) = errors(line.tick(25.0))
    assert error.code == "box_unreachable"
    assert str(error).endswith(": b.")


def test_all_who_wait_are_told_when_the_model_turns_out_not_to_fit() -> None:
    line = new_line()
    says(line, "a", idle("x"))
    line.arrived(ticket("1"), 1.0)
    line.arrived(ticket("2"), 1.0)
    effects = says(line, "a", idle("x", never_fits()), seq=2)
    assert failed(effects) == {"1": "does_not_fit", "2": "does_not_fit"}
