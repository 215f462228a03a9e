from __future__ import annotations

import pytest

from sidecar.habits import RATE_DECAY, Habits

GRACE = 0.5


def used(*pauses: float) -> Habits:
    """Asked for again after each of these pauses."""
    habits, now = Habits(), 0.0
    for pause in pauses:
        habits.went_idle(now)
        now += pause
        habits.asked(GRACE, now)
    return habits


def test_three_returns_in_a_row_are_enough_to_be_waited_for() -> None:
    assert not used(0.1, 0.1).returns
    assert used(0.1, 0.1, 0.1).returns


def test_one_that_stays_away_is_waited_for_no_more() -> None:
    assert not used(*[0.1] * 3, 9.0).returns


def test_one_that_mostly_returns_is_waited_for_although_it_stayed_away_once() -> None:
    assert used(*[0.1] * 9, 9.0, 0.1).returns


def test_it_is_learned_from_the_first_who_asks_and_from_no_other() -> None:
    habits = used(9.0)
    for _ in range(9):
        habits.asked(GRACE, 9.1)
    assert not habits.returns


def test_the_rate_is_that_of_late() -> None:
    habits = Habits()
    for at in range(1, 3001):
        habits.admitted(float(at))
    assert habits.rate(3000) == pytest.approx(1.0, rel=0.01)
    assert habits.rate(3000 + RATE_DECAY) == pytest.approx(habits.rate(3000) / 2.718, rel=0.01)
