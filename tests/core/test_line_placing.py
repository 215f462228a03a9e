"""The line: which boxes are asked, and what each is told."""

from __future__ import annotations

from itertools import pairwise

from router.limits import LineLimits
from router.line import Line
from shared.demand import ModelDemand
from shared.status import ModelStatus
from tests.core.lines import ids, new_line, says
from tests.core.said import catalogue, idle, ready, starting, ticket


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
