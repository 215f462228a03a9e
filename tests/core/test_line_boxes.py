"""The line: boxes that come and go."""

from __future__ import annotations

import math

from router.effects import Lost
from router.limits import LineLimits
from router.line import Line
from tests.core.lines import errors, failed, ids, new_line, says, sends
from tests.core.said import catalogue, idle, load_error, ready, starting, ticket


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
