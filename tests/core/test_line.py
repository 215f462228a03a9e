from __future__ import annotations

import math
import random
import sys
from itertools import pairwise
from typing import Any

import pytest

from router.effects import Effect, Fail, Lost, News, Send
from router.limits import LineLimits
from router.line import Line
from router.queue import Ticket
from shared.demand import ModelDemand
from shared.errors import LoadFailed
from shared.status import ModelStatus, Phase, PlanEntry, Step, Switch
from tests.core.said import (
    catalogue,
    idle,
    load_error,
    never_fits,
    ready,
    starting,
    status,
    ticket,
)


def new_line(boxes: str = "a", models: str = "xy", **limits: Any) -> Line:
    """Boxes of one letter that know all models and were not heard yet."""
    given = {"max_waiting": 100, "max_bytes": 1000, "max_wait": 600.0, "box_grace": 15.0}
    line = Line(LineLimits(**given | limits), boxes)
    for box in boxes:
        line.knows(box, catalogue(*models, box=box), now=0.0)
    return line


def says(
    line: Line, box: str, *models: ModelStatus, seq: int = 1, now: float = 0.0, **more: Any
) -> list[Effect]:
    return line.heard(box, status(*models, box=box, seq=seq, **more), now)


def sends(effects: list[Effect]) -> list[tuple[str, str]]:
    return [(e.ticket.id, e.box) for e in effects if isinstance(e, Send)]


def failed(effects: list[Effect]) -> dict[str, str]:
    return {e.ticket.id: e.error.code for e in effects if isinstance(e, Fail)}


def errors(effects: list[Effect]) -> list[Any]:
    return [e.error for e in effects if isinstance(e, Fail)]


def ids(line: Line, model: str = "x") -> list[str]:
    return [one.id for one in line.waiting().get(model, ())]


# Who is served.


def test_a_warm_request_is_served_at_once() -> None:
    line = new_line()
    says(line, "a", ready("x"))
    assert line.arrived(ticket("1", "x"), 1.0) == [Send(ticket("1", "x"), "a", "resident")]
    assert line.waiting() == {}


def test_warm_requests_pass_those_for_other_models() -> None:
    line = new_line()
    says(line, "a", ready("x", slots=1), idle("y"))
    line.arrived(ticket("cold", "y", priority=9), 1.0)
    assert sends(line.arrived(ticket("warm", "x"), 2.0)) == [("warm", "a")]
    assert ids(line, "y") == ["cold"]


def test_who_waits_is_served_in_order_as_far_as_there_are_slots() -> None:
    line = new_line()
    says(line, "a", idle("x"))
    for n, priority in enumerate([0, 0, 1, 0]):
        line.arrived(ticket(str(n), arrived=n, priority=priority), float(n))
    effects = says(line, "a", ready("x", slots=3), seq=2)
    assert sends(effects) == [("2", "a"), ("0", "a"), ("1", "a")]
    assert ids(line) == ["3"]


def test_the_box_with_the_lowest_share_of_taken_slots_serves() -> None:
    line = new_line("ab")
    says(line, "a", ready("x", slots=2))
    says(line, "b", ready("x", slots=6))
    effects = [line.arrived(ticket(str(n), arrived=n), 1.0) for n in range(8)]
    served = [box for e in effects for _, box in sends(e)]
    assert sorted(served[:2]) == ["a", "b"]  # ties are the hash's to break
    assert served[2:4] == ["b", "b"]
    assert sorted(served) == ["a"] * 2 + ["b"] * 6


def test_a_slot_that_becomes_free_here_goes_to_the_next_at_once() -> None:
    line = new_line()
    says(line, "a", ready("x", slots=1))
    first, second = ticket("1"), ticket("2", arrived=1)
    line.arrived(first, 1.0)
    assert sends(line.arrived(second, 1.0)) == []
    assert sends(line.left(first, 2.0)) == [("2", "a")]


def test_several_routers_take_their_share_of_the_free_slots() -> None:
    line = new_line()
    says(line, "a", idle("x"))
    for n in range(4):
        line.arrived(ticket(str(n), arrived=n), 1.0)
    assert len(sends(says(line, "a", ready("x", slots=4, routers=2), seq=2))) == 2


def test_a_request_that_saw_a_load_says_so_and_one_that_did_not_does_not() -> None:
    line = new_line()
    says(line, "a", idle("x"))
    line.arrived(ticket("1"), 1.0)
    (send,) = says(line, "a", ready("x"), seq=2)
    assert send == Send(ticket("1"), "a", "loaded")
    assert line.arrived(ticket("2"), 3.0) == [Send(ticket("2"), "a", "resident")]


def test_all_who_waited_for_a_load_say_so() -> None:
    line = new_line()
    says(line, "a", idle("x"))
    one, two = ticket("1"), ticket("2", arrived=1)
    line.arrived(one, 1.0)
    line.arrived(two, 1.0)
    assert [e.reason for e in says(line, "a", ready("x", slots=1), seq=2) if isinstance(e, Send)]
    assert line.left(one, 2.0) == [Send(two, "a", "loaded")]


def test_a_load_that_another_request_waited_for_is_not_this_one_s() -> None:
    line = new_line()
    says(line, "a", idle("x"))
    line.arrived(ticket("impatient"), 1.0)
    line.left(ticket("impatient"), 2.0)
    says(line, "a", ready("x"), seq=2)
    assert line.arrived(ticket("2"), 3.0) == [Send(ticket("2"), "a", "resident")]


def test_who_waited_for_a_slot_only_saw_no_load() -> None:
    line = new_line()
    says(line, "a", ready("x", slots=1))
    line.arrived(ticket("1"), 1.0)
    line.arrived(ticket("2", arrived=1), 1.0)
    assert line.left(ticket("1"), 2.0) == [Send(ticket("2", arrived=1), "a", "resident")]


# Refusals.


def test_a_refused_request_keeps_its_place_until_the_box_says_something_newer() -> None:
    line = new_line()
    says(line, "a", ready("x", slots=1), seq=5)
    first = ticket("first", arrived=1.0)
    line.arrived(first, 1.0)
    line.arrived(ticket("second", arrived=2.0), 2.0)
    assert sends(line.refused(first, "b1", 6, 3.0)) == []
    assert ids(line) == ["first", "second"]
    assert sends(says(line, "a", ready("x", slots=1), seq=6)) == []
    assert sends(says(line, "a", ready("x", slots=1), seq=7)) == [("first", "a")]


def test_a_refused_request_goes_to_another_box_at_once() -> None:
    line = new_line("ab")
    says(line, "a", ready("x", slots=2))
    says(line, "b", ready("x", slots=2, in_flight=1))
    one = ticket("1")
    assert sends(line.arrived(one, 1.0)) == [("1", "a")]
    assert sends(line.refused(one, "b1", 1, 2.0)) == [("1", "b")]


def test_a_new_boot_is_offered_what_the_old_one_refused() -> None:
    line = new_line()
    says(line, "a", ready("x"), seq=5)
    one = ticket("1")
    line.arrived(one, 1.0)
    line.refused(one, "b1", 5, 2.0)
    assert sends(says(line, "a", ready("x"), boot="b2", seq=1)) == [("1", "a")]


def test_a_late_refusal_frees_no_slot_that_was_never_taken() -> None:
    line = new_line()
    says(line, "a", ready("x", slots=1), seq=1)
    one, two = ticket("1", arrived=1), ticket("2", arrived=2)
    line.arrived(one, 1.0)
    line.arrived(two, 2.0)
    says(line, "a", ready("x", slots=1, in_flight=1), seq=3)
    assert sends(line.refused(one, "b1", 2, 3.0)) == []


# Demand.


def test_one_box_is_told_and_never_all() -> None:
    line = new_line("abc")
    for box in "abc":
        says(line, box, idle("x"))
    for n in range(3):
        line.arrived(ticket(str(n), arrived=n), 3.0)
    told = [line.demand(box, 5.0) for box in "abc"]
    assert sorted(map(len, told)) == [0, 0, 1]
    assert {"x": ModelDemand({0: 3}, 5.0, 0)} in told
    assert line.placed("x") in set("abc")


def test_demand_counts_by_priority_and_tells_the_age_of_the_oldest() -> None:
    line = new_line()
    says(line, "a", idle("x"))
    line.arrived(ticket("1", arrived=1.0, priority=0), 1.0)
    line.arrived(ticket("2", arrived=3.0, priority=2), 3.0)
    assert line.demand("a", 4.0) == {"x": ModelDemand({0: 1, 2: 1}, 3.0, 0)}
    assert line.demand("a", 1.0)["x"].oldest_s == 0.0


def test_sent_goes_up_with_each_send_and_goes_out_with_the_demand_that_shrinks() -> None:
    line = new_line()
    says(line, "a", idle("x"))
    for n in range(3):
        line.arrived(ticket(str(n), arrived=n), 3.0)
    before = line.demand_key("a")
    says(line, "a", ready("x", slots=2), seq=2)
    assert line.demand_key("a") != before
    assert line.demand("a", 3.0) == {"x": ModelDemand({0: 1}, 1.0, 2)}
    line.left(ticket("0"), 4.0)
    assert line.demand("a", 4.0) == {"x": ModelDemand({}, 0.0, 3)}
    assert line.demand_key("a") == {}


def test_demand_is_news_when_its_numbers_or_its_oldest_change_and_not_with_time() -> None:
    line = new_line()
    says(line, "a", idle("x"))
    first, second = ticket("1", arrived=1.0), ticket("2", arrived=2.0)
    line.arrived(first, 1.0)
    keys = [line.demand_key("a")]
    line.tick(50.0)
    says(line, "a", idle("x"), seq=2, now=60.0)
    assert line.demand_key("a") == keys[0]
    line.arrived(second, 2.0)
    keys.append(line.demand_key("a"))
    line.left(first, 3.0)
    keys.append(line.demand_key("a"))
    line.left(second, 4.0)
    keys.append(line.demand_key("a"))
    assert all(a != b for a, b in pairwise(keys))


def test_a_client_that_leaves_never_causes_a_load() -> None:
    line = new_line()
    says(line, "a", idle("x"))
    line.arrived(ticket("1"), 1.0)
    assert line.left(ticket("1"), 2.0) == []
    assert line.demand("a", 2.0) == {}
    assert line.placed("x") is None
    assert line.waiting() == {}


def test_demand_moves_to_the_box_that_holds_the_model() -> None:
    line = new_line("ab")
    says(line, "a", idle("x"))
    says(line, "b", idle("x"))
    line.arrived(ticket("1"), 1.0)
    other = "b" if line.placed("x") == "a" else "a"
    says(line, other, starting("x"), seq=2)
    assert line.placed("x") == other
    assert line.demand(other, 1.0)["x"].waiting == {0: 1}
    assert all(line.demand(box, 1.0) == {} for box in {"a", "b"} - {other})


def settled(line: Line, box: str, *models: ModelStatus, now: float) -> list[str]:
    """Who is asked for x once the box has said this, at a time when a choice may change."""
    says(line, box, *models, seq=int(now * 10) + 2, now=now)
    return line.asked("x")


def test_a_choice_stays_for_a_second_and_then_goes_to_a_much_better_box() -> None:
    line = new_line("ab")
    says(line, "a", idle("x", ready_in_s=1.0))
    says(line, "b", idle("x", ready_in_s=10.0))
    line.arrived(ticket("1"), 1.0)
    slow = idle("x", ready_in_s=10.0)
    assert settled(line, "b", idle("x", ready_in_s=9.1), now=1.5) == ["a"]
    assert settled(line, "a", slow, now=2.5) == ["a"], "9 % better is not enough"
    settled(line, "b", idle("x", ready_in_s=8.9), now=2.6)
    assert settled(line, "a", slow, now=2.8) == ["b"]
    settled(line, "b", slow, now=2.9)
    assert settled(line, "b", slow, now=3.2) == ["b"]
    settled(line, "a", idle("x", ready_in_s=0.1), now=3.3)
    assert settled(line, "b", slow, now=3.7) == ["b"], "younger than a second"
    assert settled(line, "b", slow, now=4.0) == ["a"]


def test_a_hot_model_gets_a_second_copy_and_all_its_boxes_are_told() -> None:
    line = new_line("abc")
    busy = ready("x", slots=1, in_flight=1, service_s=1.0)
    says(line, "a", busy)
    says(line, "b", idle("x", ready_in_s=9.0))
    says(line, "c", idle("x", ready_in_s=8.0, slots=4))
    for n in range(4):
        line.arrived(ticket(str(n), arrived=1.0), 1.0)
    assert settled(line, "a", busy, now=2.0) == ["a"], "four seconds: half of what c would need"
    line.arrived(ticket("4", arrived=2.0), 2.5)
    assert line.asked("x") == ["a", "c"]
    assert [sum(line.demand(box, 2.0)["x"].waiting.values()) for box in "ac"] == [5, 5]
    assert line.placed("x") == "a"
    assert settled(line, "c", starting("x", ready_in_s=7.0, slots=4), now=3.0) == ["a", "c"]
    assert settled(line, "a", busy, now=4.0) == ["a", "c"], "and no third while one is starting"
    says(line, "c", ready("x", slots=4, service_s=1.0), seq=99, now=5.0)
    assert len(ids(line)) == 1
    assert len(line.asked("x")) == 1, "two copies are enough for one who waits"


def test_a_load_asked_for_a_moment_ago_counts_although_the_box_has_not_told_of_it() -> None:
    """Then both models would be placed by their hash alone."""
    for _ in range(2):
        line = new_line("ab", "xy")
        for box in "ab":
            says(line, box, idle("x", ready_in_s=1.0), idle("y", ready_in_s=1.0))
        line.arrived(ticket("1", "x"), 1.0)
        line.arrived(ticket("2", "y"), 1.0)
        assert line.asked("x") != line.asked("y")
    told = line.asked("x")[0]
    says(line, told, idle("x", ready_in_s=1.0, waiting=1), idle("y", ready_in_s=2.0), seq=2)
    line.left(ticket("2", "y"), 2.0)
    says(line, *(box for box in "ab" if box != told), idle("y", ready_in_s=2.1), seq=2)
    line.arrived(ticket("3", "y"), 2.0)
    assert line.asked("y") == [told], "what the box tells of it is all that counts then"


def test_a_load_that_nobody_waits_for_any_more_does_not_count() -> None:
    line = new_line()
    says(line, "a", idle("x"), idle("y"))
    line.arrived(ticket("1", "x"), 1.0)
    assert line.explain("y", 1.0)["boxes"][0]["parts"]["others_s"] > 0
    line.left(ticket("1", "x"), 1.0)
    assert line.explain("y", 1.0)["boxes"][0]["parts"]["others_s"] == 0.0


def test_a_model_that_a_box_learns_of_may_be_asked_of_it_at_once() -> None:
    line = new_line("ab")
    line.knows("b", catalogue("y", box="b"), now=0.0)
    says(line, "a", idle("x"))
    line.arrived(ticket("1"), 1.0)
    says(line, "b", starting("x"), now=1.0)
    assert line.asked("x") == ["a"]
    line.knows("b", catalogue("x", "y", box="b"), now=1.0)
    assert line.asked("x") == ["b"]


def test_choices_are_looked_at_less_often_the_more_models_wait() -> None:
    models = [f"m{n}" for n in range(100)]
    line = Line(LineLimits(100, 1000, 600.0, 15.0), "ab")
    for box in "ab":
        line.knows(box, catalogue(*models, box=box), now=0.0)

    def all_say(seconds: float, seq: int, now: float) -> list[str]:
        for box, ready_in in (("b", seconds), ("a", 9.0)):
            told = [idle(model, ready_in_s=ready_in, load_s=0.0) for model in models]
            says(line, box, *told, seq=seq, now=now)
        return line.asked("m0")

    all_say(10.0, 1, now=0.0)
    for model in models:
        line.arrived(ticket(model, model, arrived=1.0), 1.0)
    assert all_say(10.0, 2, now=2.5) == ["a"]
    assert all_say(1.0, 3, now=2.9) == ["a"], "100 models: not before half a second has passed"
    assert all_say(1.0, 4, now=3.0) == ["b"]


def test_models_that_wait_are_spread_over_equal_boxes() -> None:
    line = new_line("ab", "wxyz")
    for box in "ab":
        says(line, box, *map(idle, "wxyz"))
    for model in "wxyz":
        line.arrived(ticket(model, model), 1.0)
    assert sorted(len(line.demand(box, 1.0)) for box in "ab") == [2, 2]


def test_only_boxes_whose_demand_may_have_changed_are_looked_at() -> None:
    line = new_line("abc")
    for box in "abc":
        says(line, box, idle("x"), idle("y"))
    line.take_touched()
    line.arrived(ticket("1"), 1.0)
    asked = set(line.asked("x"))
    assert line.take_touched() == asked
    says(line, min(set("abc") - asked), idle("x"), idle("y"), seq=2, now=1.1)
    assert line.take_touched() == set()
    line.left(ticket("1"), 2.0)
    assert line.take_touched() == asked


# Limits.


def test_more_than_may_wait_are_sent_away_at_once() -> None:
    line = new_line(max_waiting=2)
    says(line, "a", idle("x"), idle("y"))
    line.arrived(ticket("1", "x"), 1.0)
    line.arrived(ticket("2", "y"), 1.0)
    effects = line.arrived(ticket("3", "x"), 1.0)
    assert failed(effects) == {"3": "queue_full"}
    assert errors(effects)[0].retry_after > 0
    assert line.left(ticket("3", "x"), 1.0) == []
    line.left(ticket("1", "x"), 2.0)
    assert failed(line.arrived(ticket("4", "x"), 2.0)) == {}


def test_bodies_that_wait_are_counted_in_bytes() -> None:
    line = new_line(max_bytes=100)
    says(line, "a", idle("x"))
    line.arrived(ticket("1", size=60), 1.0)
    assert failed(line.arrived(ticket("2", size=41), 1.0)) == {"2": "queue_full"}
    assert failed(line.arrived(ticket("3", size=40), 1.0)) == {}
    says(line, "a", ready("x", slots=2), seq=2)
    says(line, "a", idle("x"), seq=3)
    assert failed(line.arrived(ticket("4", size=100), 1.0)) == {}, "who is served waits no more"


def test_a_full_line_does_not_send_away_who_need_not_wait() -> None:
    line = new_line(max_waiting=1)
    says(line, "a", ready("x", slots=1), idle("y"))
    line.arrived(ticket("cold", "y"), 1.0)
    assert sends(line.arrived(ticket("warm", "x"), 1.0)) == [("warm", "a")]
    assert failed(line.arrived(ticket("no slot", "x"), 1.0)) == {"no slot": "queue_full"}


@pytest.mark.parametrize("arrived", [0.1, 1.0, 1 / 3, 12345.678])
def test_nobody_waits_longer_than_the_limit_and_the_deadline_says_when(arrived: float) -> None:
    line = new_line(max_wait=60.1)
    says(line, "a", idle("x"))
    line.arrived(ticket("1", arrived=arrived), arrived)
    line.arrived(ticket("2", arrived=arrived + 1), arrived + 1)
    deadline = line.deadline(arrived + 1)
    assert deadline == arrived + 60.1
    assert line.tick(math.nextafter(deadline, 0.0)) == []
    assert failed(line.tick(deadline)) == {"1": "queue_timeout"}
    assert line.deadline(deadline) > deadline


def test_with_nobody_waiting_there_is_no_deadline() -> None:
    line = new_line()
    says(line, "a", ready("x"))
    assert line.deadline(1.0) == math.inf


# Loads that fail.


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
    assert (error.code, error.retry_after) == ("load_failed", 15.0)
    assert error.more["cause"] == "vram_oom"
    assert failed(line.arrived(ticket("2", arrived=25.0), 25.0)) == {}


def test_of_several_boxes_that_back_off_the_first_to_try_again_is_told() -> None:
    line = new_line("abc")
    says(line, "a", idle("x", load_error(at=1000.0, retry_in_s=90.0)))
    says(line, "b", idle("x", load_error(at=1000.0, retry_in_s=20.0)))
    says(line, "c", idle("x", never_fits()))
    (error,) = errors(line.arrived(ticket("1", arrived=10.0), 10.0))
    assert (error.code, error.retry_after) == ("load_failed", 10.0)


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


# Boxes that come and go.


def test_a_lost_box_is_waited_for_and_then_unreachable() -> None:
    line = new_line()
    says(line, "a", idle("x"))
    line.arrived(ticket("1", arrived=1.0), 1.0)
    assert failed(line.lost("a", 10.0)) == {}
    assert line.demand("a", 10.0) == {}
    assert line.deadline(10.0) == 25.0
    assert failed(line.arrived(ticket("2", arrived=11.0), 11.0)) == {}
    assert line.tick(24.9) == []
    assert failed(line.tick(25.0)) == {"1": "box_unreachable", "2": "box_unreachable"}
    assert failed(line.arrived(ticket("3"), 26.0)) == {"3": "box_unreachable"}
    assert line.deadline(26.0) == math.inf


def test_a_box_that_comes_back_with_a_new_boot_serves_those_who_waited_for_it() -> None:
    line = new_line()
    says(line, "a", ready("x", slots=1), seq=9)
    line.arrived(ticket("served", arrived=0.0), 1.0)
    line.arrived(ticket("1", arrived=1.0), 1.0)
    line.lost("a", 2.0)
    line.left(ticket("served"), 2.0)
    line.knows("a", catalogue("x", box="a", boot="b2"), 3.0)
    assert ids(line) == ["1"]
    says(line, "a", idle("x"), boot="b2", seq=1, now=3.0)
    assert line.placed("x") == "a"
    assert line.demand("a", 3.0)["x"].waiting == {0: 1}
    assert sends(says(line, "a", ready("x"), boot="b2", seq=2, now=4.0)) == [("1", "a")]
    assert line.deadline(4.0) == math.inf, "it is not waited for any more"


def test_a_lost_box_is_not_waited_for_while_another_can_serve() -> None:
    line = new_line("ab")
    says(line, "a", starting("x"))
    says(line, "b", idle("x"))
    line.arrived(ticket("1"), 1.0)
    line.lost("a", 2.0)
    assert line.placed("x") == "b"


def test_what_a_silent_box_serves_is_lost_and_what_a_closed_one_serves_may_go_on() -> None:
    line = new_line("ab", "xy")
    says(line, "a", ready("x"), idle("y"))
    says(line, "b", idle("x"), ready("y"))
    line.arrived(ticket("1", "x"), 1.0)
    line.arrived(ticket("2", "y"), 1.0)
    assert line.lost("a", 2.0) == []
    assert line.lost("a", 3.0, silent=True) == [Lost(ticket("1", "x"))]


def test_a_request_whose_answer_had_not_begun_is_sent_again_once() -> None:
    line = new_line("ab")
    says(line, "a", ready("x", slots=1))
    says(line, "b", ready("x", slots=1, in_flight=1))
    one, two = ticket("1", arrived=1.0), ticket("2", arrived=2.0)
    line.arrived(one, 1.0)
    line.arrived(two, 2.0)
    line.lost("a", 3.0)
    assert line.broken_off(one, 3.0) == []
    assert ids(line) == ["1", "2"], "at its old place"
    assert sends(says(line, "b", ready("x", slots=1), seq=2, now=4.0)) == [("1", "b")]
    assert failed(line.broken_off(one, 5.0)) == {"1": "engine_died"}
    assert line.left(one, 5.0) == []
    assert ids(line) == []


def test_who_is_sent_again_is_not_offered_to_the_same_box_before_it_says_something_newer() -> None:
    line = new_line()
    says(line, "a", ready("x", slots=1))
    line.arrived(ticket("1"), 1.0)
    assert sends(line.broken_off(ticket("1"), 2.0)) == []
    assert sends(says(line, "a", ready("x", slots=1), seq=2)) == [("1", "a")]


def test_a_request_that_was_broken_off_twice_gives_its_slot_to_the_next() -> None:
    line = new_line()
    says(line, "a", ready("x", slots=1))
    line.arrived(ticket("1"), 1.0)
    line.broken_off(ticket("1"), 2.0)
    says(line, "a", ready("x", slots=1), seq=2)
    line.arrived(ticket("2", arrived=2.0), 2.0)
    effects = line.broken_off(ticket("1"), 3.0)
    assert (failed(effects), sends(effects)) == ({"1": "engine_died"}, [("2", "a")])
    assert line.left(ticket("1"), 3.0) == []


def test_nothing_is_kept_of_a_request_that_was_sent_again_and_has_left() -> None:
    line = new_line()
    says(line, "a", ready("x"))
    for seq in (2, 3):
        line.arrived(ticket("1"), 1.0)
        assert failed(line.broken_off(ticket("1"), 2.0)) == {}
        says(line, "a", ready("x"), seq=seq)
        line.left(ticket("1"), 3.0)


def test_those_who_wait_for_a_lost_box_move_at_once() -> None:
    line = new_line("ab")
    for box in "ab":
        says(line, box, idle("x"))
    line.arrived(ticket("1"), 1.0)
    (first,) = line.asked("x")
    line.lost(first, 1.1)
    assert line.asked("x") == ["b" if first == "a" else "a"]


def test_a_second_copy_that_a_lost_box_was_asked_for_is_asked_of_another_at_once() -> None:
    line = new_line("abc")
    says(line, "a", ready("x", slots=1, in_flight=1, service_s=5.0))
    says(line, "b", idle("x", ready_in_s=3.0))
    says(line, "c", idle("x", ready_in_s=3.1))
    for n in range(3):
        line.arrived(ticket(str(n), arrived=1.0), 1.0)
    assert line.asked("x") == ["a", "b"]
    line.lost("b", 1.1)
    assert line.asked("x") == ["a", "c"]


def test_a_back_off_is_no_answer_while_a_lost_box_may_come_back() -> None:
    line = new_line("ab")
    says(line, "a", idle("x", load_error(at=1000.0, retry_in_s=100.0)))
    says(line, "b", idle("x"))
    line.lost("b", 1.0)
    assert failed(line.arrived(ticket("1", arrived=2.0), 2.0)) == {}
    assert failed(line.tick(16.0)) == {"1": "load_failed"}


def test_a_failed_load_is_no_answer_while_a_lost_box_may_come_back_and_try() -> None:
    line = new_line("ab")
    says(line, "a", starting("x"))
    says(line, "b", idle("x"))
    line.arrived(ticket("1", arrived=0.5), 0.5)
    line.lost("b", 1.0)
    assert failed(says(line, "a", idle("x", load_error(at=1000.0)), seq=2, now=2.0)) == {}
    assert failed(line.tick(15.9)) == {}
    assert line.deadline(15.9) == 16.0
    assert failed(line.tick(16.0)) == {"1": "load_failed"}


def test_a_box_that_comes_back_tries_what_has_failed_elsewhere() -> None:
    line = new_line("ab")
    says(line, "a", starting("x"))
    says(line, "b", idle("x"))
    line.arrived(ticket("1", arrived=0.5), 0.5)
    line.lost("b", 1.0)
    says(line, "a", idle("x", load_error(at=1000.0)), seq=2, now=2.0)
    assert failed(says(line, "b", idle("x"), seq=2, now=3.0)) == {}
    assert line.asked("x") == ["b"]


def test_a_lost_box_where_the_load_has_failed_is_not_waited_for() -> None:
    line = new_line("ab")
    says(line, "a", starting("x"))
    says(line, "b", idle("x"))
    line.arrived(ticket("1", arrived=0.5), 0.5)
    says(line, "b", idle("x", load_error(at=1000.0)), seq=2, now=1.0)
    line.lost("b", 1.5)
    effects = says(line, "a", idle("x", load_error(at=1000.0)), seq=2, now=2.0)
    assert failed(effects) == {"1": "load_failed"}


def test_a_box_that_is_known_and_not_heard_yet_is_waited_for() -> None:
    line = new_line()
    assert failed(line.arrived(ticket("1"), 1.0)) == {}
    assert sends(says(line, "a", ready("x"))) == [("1", "a")]


def test_a_model_that_no_box_has_is_refused_at_once() -> None:
    line = new_line()
    says(line, "a", ready("x"))
    (error,) = errors(line.arrived(ticket("1", "z"), 1.0))
    assert error.code == "box_unreachable"
    assert str(error) == "No box that has z can be reached: none."


def test_models_of_a_lost_box_stay_known() -> None:
    line = new_line("ab")
    line.lost("a", 1.0)
    assert {m: [box.key for box in boxes] for m, boxes in line.models().items()} == {
        "x": ["a", "b"],
        "y": ["a", "b"],
    }


# The end.


def test_closing_sends_away_all_who_wait_and_nobody_who_is_served() -> None:
    line = new_line()
    says(line, "a", ready("x", slots=1), idle("y"))
    for id, model in (("served", "x"), ("1", "x"), ("2", "y")):
        line.arrived(ticket(id, model), 1.0)
    assert failed(line.close()) == {"1": "shutting_down", "2": "shutting_down"}
    assert line.demand("a", 2.0)["x"].waiting == {}
    assert failed(line.arrived(ticket("3", "x"), 2.0)) == {"3": "shutting_down"}
    assert line.left(ticket("served", "x"), 3.0) == []
    assert line.deadline(3.0) == math.inf


def test_who_is_refused_after_the_end_does_not_wait_again() -> None:
    line = new_line()
    says(line, "a", ready("x"))
    line.arrived(ticket("1"), 1.0)
    line.close()
    assert failed(line.refused(ticket("1"), "b1", 1, 2.0)) == {"1": "shutting_down"}
    assert line.waiting() == {}


# What they are told.

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


class History:
    """Plays at random what can happen to a line, and keeps the books on its own."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.line = new_line("ab", "xyz", max_waiting=12, max_bytes=60, max_wait=40.0)
        self.now = 0.0
        self.seq = 1
        self.boots = {"a": "b1", "b": "b1"}
        self.waiting: dict[str, Ticket] = {}
        self.served: dict[str, tuple[Ticket, str]] = {}
        self.ended: set[str] = set()
        self.sent = {(box, model): 0 for box in "ab" for model in "xyz"}

    def play(self, steps: int) -> None:
        for n in range(steps):
            self.now += self.rng.random() * 2
            told = {box: self.line.demand_key(box) for box in "ab"}
            self.line.take_touched()
            self._step(n)
            touched = self.line.take_touched()
            assert all(self.line.demand_key(box) == told[box] for box in {"a", "b"} - touched)
            self._check()

    def end(self) -> None:
        for one, _ in list(self.served.values()):
            self._leave(one)
        self._apply(self.line.tick(self.now + 100.0))
        self.now += 100.0

    def _step(self, n: int) -> None:
        kinds = [self._arrive, self._arrive, self._hear, self._leave_any, self._refuse]
        kinds += [self._tick, self._tick, self._lose, self._break_off]
        self.rng.choice(kinds)(n)

    def _arrive(self, n: int) -> None:
        rng = self.rng
        one = Ticket(str(n), rng.choice("xyz"), self.now, rng.choice([0, 0, 1]), rng.randrange(9))
        self.waiting[one.id] = one
        self._apply(self.line.arrived(one, self.now))

    def _hear(self, n: int) -> None:
        box = self.rng.choice("ab")
        if self.rng.random() < 0.1:
            self.boots[box] = f"b{n}"
        self.seq += 1
        said = status(*map(self._model, "xyz"), box=box, boot=self.boots[box], seq=self.seq)
        self._apply(self.line.heard(box, said, self.now))

    def _model(self, id: str) -> ModelStatus:
        kinds = [ready(id, 2, in_flight=self.rng.randrange(3)), ready(id, 3, routers=2), idle(id)]
        kinds += [starting(id), ModelStatus(id, Phase.SWITCHING), idle(id, load_error(999.0))]
        kinds += [idle(id, load_error(1000.0, retry_in_s=3.0)), idle(id, never_fits())]
        return self.rng.choice(kinds)

    def _leave_any(self, n: int) -> None:
        tickets = [*self.waiting.values(), *(one for one, _ in self.served.values())]
        if tickets:
            self._leave(self.rng.choice(tickets))

    def _leave(self, one: Ticket) -> None:
        self.waiting.pop(one.id, None)
        self.served.pop(one.id, None)
        self.ended.add(one.id)
        self._apply(self.line.left(one, self.now))

    def _refuse(self, n: int) -> None:
        if self.served:
            one, box = self.served.pop(self.rng.choice(list(self.served)))
            self.waiting[one.id] = one
            self._apply(self.line.refused(one, self.boots[box], self.seq, self.now))

    def _break_off(self, n: int) -> None:
        if self.served:
            one, _ = self.served.pop(self.rng.choice(list(self.served)))
            self.waiting[one.id] = one
            self._apply(self.line.broken_off(one, self.now))

    def _lose(self, n: int) -> None:
        box, silent = self.rng.choice("ab"), self.rng.random() < 0.5
        effects = self.line.lost(box, self.now, silent=silent)
        lost = {effect.ticket.id for effect in effects if isinstance(effect, Lost)}
        assert lost == {id for id, (_, at) in self.served.items() if silent and at == box}
        self._apply([effect for effect in effects if not isinstance(effect, Lost)])

    def _tick(self, n: int) -> None:
        deadline = self.line.deadline(self.now)
        if deadline < math.inf:
            self.now = max(self.now, deadline)
            self._apply(self.line.tick(self.now))
            assert self.line.deadline(self.now) > self.now, "a deadline that is over is over"

    def _apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, News | Lost):
                continue
            one = self.waiting.pop(effect.ticket.id)  # else: told twice, or out of nothing
            if isinstance(effect, Send):
                same = [t for t in self.waiting.values() if t.model == one.model]
                assert one == min([one, *same], key=by_priority_and_arrival), "out of turn"
                assert self.line.boxes[effect.box].live
                self.served[one.id] = (one, effect.box)
                self.sent[effect.box, one.model] += 1
            else:
                self.ended.add(one.id)
                self._apply(self.line.left(one, self.now))

    def _check(self) -> None:
        queues = self.line.waiting()
        assert {t.id for queue in queues.values() for t in queue} == set(self.waiting)
        assert not self.ended & (set(self.waiting) | set(self.served))
        assert len(self.waiting) <= 12 + len(self.sent)
        for model, queue in queues.items():
            assert len(queue) > 0
            asked = [
                box for box in "ab" if self.line.demand(box, self.now).get(model, NONE).waiting
            ]
            assert set(asked) == set(self.line.asked(model))
            others = [box for box in asked if not self.line.boxes[box].holds(model)]
            assert len(others) <= 1, "of those that do not hold it one is told, never all"
            if asked:
                assert self.line.placed(model) in asked
            for box in asked:
                wanted = self.line.demand(box, self.now)[model]
                assert sum(wanted.waiting.values()) == len(queue)
            assert all(box.free_slots(model) <= 0 for box in self.line.boxes.values())
            for one in queue:
                assert self.line.tell(one, self.now).position >= 1
        for (box, model), sent in self.sent.items():
            assert self.line.demand(box, self.now).get(model, NONE).sent == sent


def by_priority_and_arrival(one: Ticket) -> tuple[int, float, str]:
    return (-one.priority, one.arrived, one.id)


NONE = ModelDemand()


@pytest.mark.parametrize("seed", range(8))
def test_in_any_history_every_request_ends_once_and_nobody_is_lost(seed: int) -> None:
    history = History(seed)
    history.play(120)
    history.end()
    assert not history.waiting
    assert not history.served
    assert history.line.waiting() == {}
    says(history.line, "a", idle("x"), seq=10**6, boot="last", now=history.now)
    last = ticket("last", arrived=history.now, size=60)
    assert failed(history.line.arrived(last, history.now)) == {}, "no byte is counted that left"


def test_a_box_that_could_not_be_connected_to_was_sent_nothing() -> None:
    line = new_line()
    says(line, "a", ready("x"))
    one = ticket("1", arrived=1.0)
    assert sends(line.arrived(one, 1.0)) == [("1", "a")]
    assert sends(line.unreachable(one, 2.0)) == []  # not before there is newer news
    assert line.demand("a", 2.0)["x"].sent == 0
    assert sends(says(line, "a", ready("x"), seq=2)) == [("1", "a")]


def test_boxes_that_were_never_heard_are_known() -> None:
    line = new_line("ab")
    says(line, "a", ready("x"))
    assert line.unheard() == ["b"]


def test_a_box_that_may_be_off_is_never_waited_for_to_be_heard() -> None:
    line = Line(LineLimits(100, 1000, 600.0, 15.0), "abc", optional="bc")
    assert line.unheard() == ["a"]
    says(line, "a", ready("x"))
    assert line.unheard() == []
    assert not line.all_heard()  # a fresh router gives them a moment all the same
    says(line, "b", ready("x"))
    says(line, "c", ready("x"))
    assert line.all_heard()


def test_a_box_that_may_be_off_serves_as_any_other_once_it_is_heard() -> None:
    line = Line(LineLimits(100, 1000, 600.0, 15.0), "a", optional="a")
    line.knows("a", catalogue("x", box="a"), now=0.0)
    says(line, "a", ready("x"))
    assert sends(line.arrived(ticket("1"), 1.0)) == [("1", "a")]
