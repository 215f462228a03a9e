from __future__ import annotations

import math

from shared.pulse import OVERDUE, REMEMBERED, Lags, Pulse

NEVER = math.inf


def test_who_has_nothing_to_decide_and_nothing_to_watch_is_well() -> None:
    assert Pulse().trouble(NEVER, 1e9) is None


def test_a_decision_may_be_a_little_late_and_no_more() -> None:
    pulse = Pulse()
    assert pulse.trouble(100, 100 + OVERDUE) is None
    assert pulse.trouble(100, 107) == "a decision is overdue for 7 s"


def test_a_decision_that_fails_is_told_until_the_next_about_the_same_does_not() -> None:
    pulse = Pulse()
    assert pulse.failed("memory", "KeyError in plan")
    assert not pulse.failed("memory", "KeyError in plan")
    pulse.decided("files")
    assert pulse.trouble(NEVER, 1) == "memory: the last decision has failed, KeyError in plan"
    assert pulse.failed("memory", "ValueError in plan")
    pulse.decided("memory")
    assert pulse.trouble(NEVER, 1) is None


def test_what_was_looked_at_must_be_looked_at_again() -> None:
    pulse = Pulse()
    pulse.saw("memory", 10, again_within=5)
    pulse.saw("files", 12, again_within=5)
    assert pulse.trouble(NEVER, 15) is None
    assert pulse.trouble(NEVER, 16) == "memory: nothing for 6 s"
    pulse.saw("memory", 16, again_within=5)
    assert pulse.trouble(NEVER, 18) == "files: nothing for 6 s"


def test_who_stood_still_has_time_to_look_and_decide_again() -> None:
    pulse = Pulse()
    pulse.saw("memory", 10, again_within=5)
    pulse.woke(100)
    assert pulse.trouble(50, 103) is None
    assert pulse.trouble(50, 104) == "a decision is overdue for 54 s"
    assert pulse.trouble(NEVER, 105) is None
    assert pulse.trouble(NEVER, 106) == "memory: nothing for 96 s"


def test_the_worst_lag_of_the_last_minute_is_told() -> None:
    lags = Lags()
    assert lags.worst(0) == 0
    for now, lag in ((0, 0.5), (1, 2.0), (2, 0.25), (3, 0.5), (4, 0.5)):
        lags.add(lag, now)
    assert lags.worst(4) == 2
    assert lags.worst(1 + REMEMBERED) == 2
    assert lags.worst(2 + REMEMBERED) == 0.5
    assert lags.worst(5 + REMEMBERED) == 0


def test_what_is_remembered_of_a_slow_loop_is_bounded() -> None:
    lags = Lags()
    for beat in range(1000):
        lags.add(1 / (1 + beat), beat * 0.25)
    assert len(lags._late) <= 1 + REMEMBERED / 0.25
