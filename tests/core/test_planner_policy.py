"""What an operator may say of the planning, and what it has learned: grace, least stay, keep-alive,
standbys, starts that must not be mixed up, and a second try after a load that died of memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.status import Phase
from sidecar.demand import BY_HAND, Want
from sidecar.plan import Plan
from tests.core.test_planner import (
    COST,
    LOAD,
    NOW,
    TWO_GPUS,
    claim,
    claims,
    drains,
    needs,
    planned,
    resident,
    starts,
    want,
)

GPUS = ("gpu0", "gpu1")
STANDBY = replace(needs(20), standby=True)


def waits(decided: Plan) -> list[str]:
    return [wait.model for wait in decided.waits]


# The grace of a model that is mostly asked for again at once.


def test_an_idle_model_that_mostly_returns_is_kept_for_a_moment() -> None:
    returns = resident("a", 20, returns=True, last_used=NOW)
    decided = planned(returns, wants={"b": want()})
    assert (drains(decided), waits(decided)) == ([], ["b"])
    assert decided.deadline == NOW + 1.0  # a quarter of the switch, and no more than a second


def test_the_grace_is_a_quarter_of_the_switch_where_that_is_short() -> None:
    returns = resident("a", 20, returns=True, last_used=NOW, stop_s=0.1)
    decided = planned(returns, wants={"b": want()}, need={"b": needs(20, load=0.7)})
    assert decided.deadline == pytest.approx(NOW + 0.25 * 0.8)


def test_after_its_grace_it_leaves() -> None:
    returns = resident("a", 20, returns=True, last_used=NOW - 1.0)
    assert drains(planned(returns, wants={"b": want()})) == ["a"]


def test_the_grace_never_outlasts_the_visit() -> None:
    returns = resident("a", 20, returns=True, last_used=NOW, ready_at=NOW - 99)
    waited = want(since=NOW - 2 * COST)
    assert drains(planned(returns, wants={"b": waited})) == ["a"]


def test_an_idle_model_that_seldom_returns_leaves_at_once() -> None:
    assert drains(planned(resident("a", 20, last_used=NOW), wants={"b": want()})) == ["a"]


# The least stay.


@pytest.mark.parametrize("in_flight", [0, 1])
def test_a_model_stays_at_least_as_long_as_the_config_says(in_flight: int) -> None:
    fresh = resident("a", 20, ready_at=NOW - 10, in_flight=in_flight)
    decided = planned(fresh, wants={"b": want(since=NOW - 99)}, min_resident=60)
    assert (drains(decided), decided.deadline) == ([], NOW + 50)


def test_an_operator_does_not_wait_for_the_least_stay() -> None:
    fresh = resident("a", 20, ready_at=NOW)
    by_hand = {"b": Want({BY_HAND: 1}, NOW)}
    assert drains(planned(fresh, wants=by_hand, min_resident=60)) == ["a"]


def test_a_load_that_nobody_waits_for_has_no_least_stay() -> None:
    loading = resident("a", 20, phase=Phase.STARTING, ready_at=NOW + 5)
    assert drains(planned(loading, wants={"b": want()}, min_resident=60)) == ["a"]


# Keep-alive.


def test_a_model_leaves_when_nobody_has_used_it_for_its_keep_alive() -> None:
    unused = resident("a", last_used=NOW - 300, expires_at=NOW)
    [drain] = planned(unused, wants={}).drains
    assert (drain.model, drain.because) == ("a", "nobody has used it for 300 s")


def test_until_then_it_stays_and_is_looked_at_again_in_time() -> None:
    assert planned(resident("a", expires_at=NOW + 5), wants={}) == Plan(deadline=NOW + 5)


@pytest.mark.parametrize("in_flight", [0, 1])
def test_who_is_used_or_wanted_does_not_leave_for_its_keep_alive(in_flight: int) -> None:
    used = resident("a", expires_at=NOW, in_flight=in_flight)
    assert drains(planned(used, wants={} if in_flight else {"a": want()})) == []


def test_a_request_on_the_wire_keeps_a_model_with_a_keep_alive_of_nothing() -> None:
    assert drains(planned(resident("a", expires_at=NOW), wants={}, due={"a": 1})) == []


# Models that belong here.


def test_a_standby_is_loaded_where_there_is_room() -> None:
    [start] = planned(wants={}, extras=("a",)).starts
    assert (start.model, start.because) == ("a", "kept ready while nobody waits")


def test_a_standby_comes_back_when_the_big_model_was_idle_for_two_switches_and_the_way_back() -> (
    None
):
    left = NOW - 2 * (COST + LOAD)
    decided = planned(
        resident("big", 24, last_used=left), wants={}, extras=("a",), need={"a": STANDBY}
    )
    assert (drains(decided), claims(decided)) == (["big"], ["a"])
    early = planned(
        resident("big", 24, last_used=left + 1), wants={}, extras=("a",), need={"a": STANDBY}
    )
    assert (drains(early), early.deadline) == ([], NOW + 1)
    assert [(w.model, w.because) for w in early.waits] == [
        ("a", "kept ready while nobody waits: in 1 s, if big stays idle")
    ]


def test_a_standby_does_not_come_back_for_a_busy_model() -> None:
    busy = resident("big", 24, last_used=0, in_flight=1)
    assert planned(busy, wants={}, extras=("a",), need={"a": STANDBY}) == Plan()


def test_a_standby_never_sends_away_another_standby_or_a_pinned_model() -> None:
    for other in (
        resident("b", 24, last_used=0, standby=True),
        resident("b", 24, last_used=0, pinned=True),
    ):
        assert planned(other, wants={}, extras=("a",), need={"a": STANDBY}) == Plan()


def test_a_standby_does_not_end_a_load_that_nobody_waits_for() -> None:
    loading = resident("big", 24, phase=Phase.STARTING, last_used=0)
    assert planned(loading, wants={}, extras=("a",), need={"a": STANDBY}) == Plan()


def test_a_preload_sends_nobody_away() -> None:
    assert planned(resident("big", 24, last_used=0), wants={}, extras=("a",)) == Plan()


def test_nothing_comes_back_while_somebody_else_waits_for_room() -> None:
    decided = planned(
        resident("big", 24, in_flight=1), wants={"b": want()}, extras=("a",), need={"a": needs(1)}
    )
    assert (starts(decided), waits(decided)) == ([], ["b"])


def test_a_standby_whose_load_failed_is_tried_again_when_its_back_off_ends() -> None:
    failed = replace(STANDBY, retry_at=NOW + 9)
    decided = planned(wants={}, extras=("a",), need={"a": failed})
    assert (starts(decided), decided.deadline) == ([], NOW + 9)


def test_the_promise_to_a_standby_ends_when_somebody_waits_for_room() -> None:
    leaving = resident("big", 24, phase=Phase.STOPPING)
    promised = (claim("a", 20, "big"),)
    kept = planned(leaving, wants={}, extras=("a",), claims=promised)
    assert claims(kept) == ["a"]
    dropped = planned(leaving, wants={"b": want()}, extras=("a",), claims=promised)
    assert claims(dropped) == ["b"]


# Room that comes where nobody looked for it.


def promised_on_gpu0(other: int) -> Plan:
    """b waits for a to finish what it has; of gpu1 somebody holds `other` bytes."""
    draining = resident("a", 20, phase=Phase.SWITCHING, in_flight=1)
    here = resident("here", booking={"gpu1": other})
    return planned(
        draining,
        here,
        wants={"b": want()},
        need={"b": needs(20, "gpu0", "gpu1")},
        capacity=TWO_GPUS,
        claims=(claim("b", 20, "a"),),
    )


def test_a_model_with_a_claim_starts_where_room_has_come_meanwhile() -> None:
    decided = promised_on_gpu0(4)
    assert [(s.model, s.booking) for s in decided.starts] == [("b", {"gpu1": 20})]
    assert [(k.model, k.because) for k in decided.keeps] == [("a", "b has found room elsewhere")]
    assert decided.claims == ()


def test_a_model_with_a_claim_waits_while_there_is_no_room_elsewhere() -> None:
    decided = promised_on_gpu0(5)
    assert (starts(decided), claims(decided), decided.keeps) == ([], ["b"], ())


def test_room_that_is_promised_to_another_is_nobodys_elsewhere() -> None:
    draining = resident("a", 20, phase=Phase.SWITCHING, in_flight=1)
    decided = planned(
        draining,
        resident("x", booking={"gpu1": 4}, phase=Phase.SWITCHING, in_flight=1),
        wants={"b": want(), "c": want()},
        need={"b": needs(20, "gpu0", "gpu1"), "c": needs(24, "gpu1")},
        capacity=TWO_GPUS,
        claims=(claim("b", 20, "a"), claim("c", 24, "x", pool="gpu1")),
    )
    assert (starts(decided), claims(decided), decided.keeps) == ([], ["b", "c"], ())


# Starts whose use can only be told by a difference.


def test_where_only_a_difference_tells_the_use_starts_on_one_gpu_go_one_by_one() -> None:
    need = {"a": needs(8), "b": needs(8)}
    wanted = {"a": want(since=NOW - 2), "b": want(since=NOW - 1)}
    decided = planned(wants=wanted, need=need, one_start_at_a_time=GPUS)
    assert (starts(decided), claims(decided)) == (["a"], ["b"])
    loading = resident("a", 8, phase=Phase.STARTING)
    later = planned(loading, wants=wanted, need=need, one_start_at_a_time=GPUS)
    assert (starts(later), claims(later)) == ([], ["b"])
    ready = planned(
        resident("a", 8), wants=wanted, need=need, claims=(claim("b", 8),), one_start_at_a_time=GPUS
    )
    assert starts(ready) == ["b"]


def test_starts_on_different_gpus_go_side_by_side() -> None:
    need = {"a": needs(20, "gpu0", "gpu1"), "b": needs(20, "gpu0", "gpu1")}
    decided = planned(
        wants={m: want() for m in need}, need=need, capacity=TWO_GPUS, one_start_at_a_time=GPUS
    )
    assert starts(decided) == ["a", "b"]
    assert {pool for start in decided.starts for pool in start.booking} == {"gpu0", "gpu1"}


def test_on_the_host_starts_go_side_by_side() -> None:
    need = {m: needs(8, "host") for m in "ab"}
    decided = planned(
        wants={m: want() for m in need}, need=need, capacity={"host": 24}, one_start_at_a_time=GPUS
    )
    assert starts(decided) == ["a", "b"]


# A second try after a load that died of memory.


def test_for_a_second_try_one_more_engine_leaves_than_it_needs() -> None:
    others = [resident("a", 4, last_used=1), resident("b", 4, last_used=2)]
    again = {"c": replace(needs(10), again=True)}
    decided = planned(*others, wants={"c": want()}, need=again)
    assert (drains(decided), claims(decided), starts(decided)) == (["a"], ["c"], [])


def test_a_second_try_with_nobody_left_to_leave_starts_as_it_is() -> None:
    again = {"c": replace(needs(10), again=True)}
    assert starts(planned(wants={"c": want()}, need=again)) == ["c"]


def test_a_second_try_that_needs_room_sends_away_whom_it_needs_and_no_more() -> None:
    others = [resident("a", 12, last_used=1), resident("b", 12, last_used=2)]
    again = {"c": replace(needs(12), again=True)}
    assert drains(planned(*others, wants={"c": want()}, need=again)) == ["a"]


# Room that nobody of ours could make.


def test_a_model_is_stuck_when_it_does_not_fit_beside_what_never_leaves() -> None:
    pinned = resident("a", 10, pinned=True)
    [wait] = planned(pinned, wants={"b": want()}).waits
    assert (wait.model, wait.stuck) == ("b", True)
    [wait] = planned(wants={"b": want()}, capacity={"gpu0": 19}).waits
    assert wait.stuck, "strangers hold the rest"


def test_a_model_is_not_stuck_while_others_of_ours_are_only_busy() -> None:
    loading = resident("a", 20, phase=Phase.STARTING)
    [wait] = planned(loading, wants={"a": want(), "b": want()}).waits
    assert (wait.model, wait.stuck) == ("b", False)


# Whom it is cheapest to disturb.


def test_who_is_asked_for_more_often_is_dearer() -> None:
    often = resident("a", 12, last_used=NOW - 60, rate=1.0)
    seldom = resident("b", 12, last_used=NOW - 50)
    decided = planned(often, seldom, wants={"c": want()}, need={"c": needs(12)})
    assert drains(decided) == ["b"]


def test_who_loads_longer_is_dearer() -> None:
    slow = resident("a", 12, last_used=NOW - 60, load_s=60.0)
    fast = resident("b", 12, last_used=NOW - 50, load_s=2.0)
    decided = planned(slow, fast, wants={"c": want()}, need={"c": needs(12)})
    assert drains(decided) == ["b"]


def test_of_gpus_with_room_the_one_that_is_left_fullest_is_taken() -> None:
    small = resident("small", booking={"gpu1": 12})
    need = {"c": needs(10, "gpu0", "gpu1")}
    [start] = planned(small, wants={"c": want()}, need=need, capacity=TWO_GPUS).starts
    assert start.booking == {"gpu1": 10}
