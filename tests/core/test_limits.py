"""Who may not even wait, and what they are told of when to come back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from router.effects import Effect, Fail, Send
from router.limits import LineLimits
from router.line import Line
from router.spread import around
from shared.status import ModelStatus, Phase, Switch
from tests.core.said import catalogue, idle, ready, status, ticket


def full_line(*models: ModelStatus, switches: tuple[Switch, ...] = (), **limits: Any) -> Line:
    """One box, which was heard at 10, and room for two."""
    given = {"max_waiting": 2, "max_bytes": 10**9, "max_wait": 600.0, "box_grace": 15.0}
    line = Line(LineLimits(**given | limits), "a")
    line.knows("a", catalogue(*(m.id for m in models), box="a"), 0.0)
    line.heard("a", status(*models, box="a", switches=switches), 10.0)
    return line


def refused(effects: list[Effect]) -> tuple[int, str, float]:
    (fail,) = effects
    assert isinstance(fail, Fail)
    error = fail.error
    assert error.retry
    assert error.retry_after is not None
    return error.status, error.code, error.retry_after


def said(effects: list[Effect]) -> str:
    (fail,) = effects
    assert isinstance(fail, Fail)
    return fail.error.message


def come_back(line: Line, now: float = 20.0) -> float:
    return refused(line.arrived(ticket("more", arrived=now), now))[2] / around(1.0, "more")


def test_one_tenant_may_fill_its_part_and_another_still_has_room() -> None:
    line = full_line(idle("x"), idle("y"), max_waiting=4, max_waiting_per_tenant=2)
    line.arrived(ticket("1", "x", tenant="a"), 10.0)
    line.arrived(ticket("2", "y", tenant="a"), 10.0)
    assert refused(line.arrived(ticket("3", "x", tenant="a"), 10.0))[:2] == (429, "tenant_limit")
    assert not any(isinstance(e, Fail) for e in line.arrived(ticket("4", tenant="b"), 10.0))
    line.left(ticket("1", "x", tenant="a"), 11.0)
    assert not any(isinstance(e, Fail) for e in line.arrived(ticket("5", tenant="a"), 11.0))
    line.arrived(ticket("6", tenant="c"), 11.0)
    assert refused(line.arrived(ticket("7", tenant="c"), 11.0))[:2] == (503, "queue_full")


def test_one_tenant_may_fill_its_part_of_the_bytes_and_another_still_has_room() -> None:
    line = full_line(idle("x"), max_waiting=10, max_bytes=1000, max_waiting_per_tenant=5)
    line.arrived(ticket("1", size=300, tenant="hog"), 10.0)
    effects = line.arrived(ticket("2", size=201, tenant="hog"), 10.0)
    assert refused(effects)[:2] == (429, "tenant_limit")
    assert said(effects) == "1 of your requests with bodies of 300 bytes wait already."
    assert not any(
        isinstance(e, Fail) for e in line.arrived(ticket("3", size=500, tenant="b"), 10.0)
    )
    line.left(ticket("1", size=300, tenant="hog"), 11.0)
    assert not any(
        isinstance(e, Fail) for e in line.arrived(ticket("4", size=500, tenant="hog"), 11.0)
    )
    effects = line.arrived(ticket("5", size=1, tenant="c"), 11.0)
    assert refused(effects)[:2] == (503, "queue_full")
    assert said(effects) == "2 requests with bodies of 1000 bytes wait already."


def test_a_tenant_s_first_may_wait_however_small_its_part() -> None:
    line = full_line(idle("x"), max_waiting=1000, max_bytes=1000, max_waiting_per_tenant=2)
    assert not any(isinstance(e, Fail) for e in line.arrived(ticket("1", size=9, tenant="a"), 10.0))
    effects = line.arrived(ticket("2", size=1, tenant="a"), 10.0)
    assert refused(effects)[:2] == (429, "tenant_limit")


def test_who_is_over_its_own_limit_hears_that_also_while_the_line_is_full() -> None:
    line = full_line(idle("x"), max_waiting=2, max_waiting_per_tenant=2)
    for id in "12":
        line.arrived(ticket(id, tenant="a"), 10.0)
    effects = line.arrived(ticket("3", tenant="a"), 10.0)
    assert refused(effects)[:2] == (429, "tenant_limit")
    assert said(effects) == "2 of your requests wait already."
    assert refused(line.arrived(ticket("4", tenant="b"), 10.0))[:2] == (503, "queue_full")


def test_who_need_not_wait_meets_no_limit_of_its_tenant() -> None:
    line = full_line(ready("x"), idle("y"), max_waiting_per_tenant=1)
    line.arrived(ticket("cold", "y", tenant="a"), 10.0)
    assert not any(isinstance(e, Fail) for e in line.arrived(ticket("1", tenant="a"), 10.0))


def test_who_comes_back_after_a_refusal_meets_no_limit() -> None:
    line = full_line(ready("x", slots=1), max_waiting=1, max_waiting_per_tenant=1)
    first, second = ticket("1", tenant="a"), ticket("2", arrived=1.0, tenant="a")
    line.arrived(first, 10.0)
    line.arrived(second, 10.0)
    assert not any(isinstance(e, Fail) for e in line.refused(first, "b1", 1, 11.0))
    assert [one.id for one in line.waiting()["x"]] == ["1", "2"]


SWITCH = Switch("s-1", "x", Phase.STARTING, None, elapsed_s=1.0, eta_s=17.5, eta_source="history")


def test_a_place_is_free_when_the_next_of_all_is_served() -> None:
    line = full_line(
        idle("x"), replace(idle("y"), ready_in_s=30.0, load_source="size"), switches=(SWITCH,)
    )
    line.arrived(ticket("1", "y", arrived=19.0), 19.0)
    line.arrived(ticket("2", "x", arrived=19.0), 19.0)
    assert come_back(line) == pytest.approx(7.5)


def test_a_tenant_s_place_is_free_when_its_own_first_is_served() -> None:
    x = replace(idle("x"), slots=2, service_s=4.0)
    limits = {"max_waiting": 9, "max_waiting_per_tenant": 1}
    line = full_line(x, idle("y"), switches=(SWITCH,), **limits)
    for n, tenant in enumerate("abc"):
        line.arrived(ticket(str(n), arrived=19.0 + n / 10, tenant=tenant), 19.5)
    status, code, seconds = refused(line.arrived(ticket("more", "y", tenant="c"), 20.0))
    assert (status, code) == (429, "tenant_limit")
    assert seconds / around(1.0, "more") == pytest.approx(7.5 + 4.0)


def test_where_a_slot_is_waited_for_the_length_of_answers_tells() -> None:
    x = ready("x", slots=4, in_flight=4, service_s=30.0)
    line = full_line(x, max_waiting=1)
    line.arrived(ticket("1", arrived=19.0), 19.0)
    assert come_back(line) == pytest.approx(7.5)


def test_what_nobody_knows_is_expected_to_last_as_long_again() -> None:
    line = full_line(idle("x"))
    line.arrived(ticket("1", arrived=8.0), 11.0)
    line.arrived(ticket("2", arrived=11.0), 11.0)
    assert come_back(line) == pytest.approx(12.0)


@pytest.mark.parametrize(("ready_in", "told"), [(0.01, 1.0), (4000.0, 50.0)])
def test_nobody_is_sent_away_for_less_than_a_second_or_over_a_minute(
    ready_in: float, told: float
) -> None:
    x = replace(idle("x"), waiting=1, ready_in_s=ready_in, load_source="history")
    line = full_line(x, max_waiting=1)
    line.arrived(ticket("1", arrived=20.0), 20.0)
    assert come_back(line) == pytest.approx(told)


def test_a_body_that_could_never_wait_is_too_large_and_nobody_is_told_to_come_back() -> None:
    line = full_line(idle("x"), ready("y"), max_bytes=10)
    (fail,) = line.arrived(ticket("1", size=11), 20.0)
    assert isinstance(fail, Fail)
    assert (fail.error.status, fail.error.code, fail.error.retry) == (413, "too_large", False)
    (sent,) = line.arrived(ticket("2", "y", size=11), 20.0)
    assert isinstance(sent, Send), "it need not wait"


def test_those_who_are_sent_away_together_do_not_come_back_together() -> None:
    told = [around(30.0, str(n)) for n in range(1000)]
    assert min(told) >= 24.0
    assert max(told) <= 36.0
    assert all(sum(24 + n <= one < 25 + n for one in told) > 50 for n in range(12))
    assert around(30.0, "7") == told[7], "the same request is told the same"
