"""How long a client is waited for."""

from shared.patience import BODY_RATE, Backlog, Limits, body_until

LIMITS = Limits(body=60, stall=60)


def test_a_body_has_a_minute_and_a_second_for_each_64_kib_that_have_come() -> None:
    assert body_until(100.0, 0, LIMITS) == 160.0
    assert body_until(100.0, 10 * BODY_RATE, LIMITS) == 170.0


def test_a_client_that_takes_nothing_is_stalled_when_its_time_is_over() -> None:
    backlog = Backlog(0.0, 1000)
    assert not backlog.is_stalled(59.9, 1000, LIMITS)
    assert backlog.is_stalled(60.0, 1000, LIMITS)


def test_a_client_that_takes_a_little_is_waited_for_again() -> None:
    backlog = Backlog(0.0, 1000)
    assert not backlog.is_stalled(45.0, 999, LIMITS)
    assert not backlog.is_stalled(75.0, 2000, LIMITS)  # of what was added it has taken none
    assert not backlog.is_stalled(104.9, 2000, LIMITS)
    assert backlog.is_stalled(105.0, 2000, LIMITS)
