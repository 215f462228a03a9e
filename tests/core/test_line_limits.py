"""The line: who may not wait, or not any longer."""

from __future__ import annotations

import math

import pytest

from tests.core.lines import errors, failed, new_line, says, sends
from tests.core.said import idle, ready, ticket


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
