"""The line: who is served, and who is refused."""

from __future__ import annotations

import math

from router.effects import Send
from tests.core.lines import failed, ids, new_line, says, sends
from tests.core.said import idle, ready, ticket

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
