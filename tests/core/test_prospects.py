from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from shared.status import Phase
from sidecar.demand import Want
from sidecar.memory import Bytes
from sidecar.plan import Candidate, Claim, Facts, Resident, Rules
from sidecar.prospects import NEVER, Outlook, Prospect, prospects
from tests.core.test_planner import COST, LOAD, NOW, ONE_GPU, STOP, claim, needs, resident, want


def box(
    *residents: Resident,
    wants: Mapping[str, Want] | None = None,
    claims: tuple[Claim, ...] = (),
    capacity: Bytes = ONE_GPU,
    now: float = NOW,
) -> Facts:
    here = {r.model: r for r in residents}
    candidates = {name: needs(20) for name in (*(wants or {}), *(c.model for c in claims))}
    return Facts(now, capacity, candidates, here, wants or {}, {}, claims, Rules(120.0))


def of(facts: Facts, model: str = "x", candidate: Candidate | None = None) -> Prospect:
    return prospects(facts, {model: candidate or needs(20)})[model]


def test_a_model_that_is_ready_is_ready_now() -> None:
    assert of(box(resident("x"))) == Prospect(0.0)


def test_one_that_loads_is_ready_when_its_load_ends() -> None:
    loading = resident("x", phase=Phase.STARTING, ready_at=NOW + 3)
    assert of(box(loading)) == Prospect(3.0)


def test_where_there_is_room_it_takes_its_load_and_disturbs_nobody() -> None:
    assert of(box()) == Prospect(LOAD)
    assert of(box(resident("a", 4, in_flight=1))) == Prospect(LOAD)


def test_an_idle_victim_is_gone_after_its_stop() -> None:
    prospect = of(box(resident("a", last_used=NOW - 90)))
    assert prospect.ready_in == STOP + LOAD


@pytest.mark.parametrize(("idle", "disturbs"), [(0, LOAD), (LOAD, LOAD), (10 * LOAD, LOAD / 10)])
def test_who_was_used_a_moment_ago_will_mostly_be_asked_for_again(
    idle: float, disturbs: float
) -> None:
    assert of(box(resident("a", last_used=NOW - idle))).disturbs == pytest.approx(disturbs)


def test_a_busy_victim_has_its_visit_and_its_drain_first() -> None:
    busy = resident("a", in_flight=1, service_s=2.0, ready_at=NOW - 99)
    cost = COST + 2.0
    assert of(box(busy)) == Prospect(2 * cost + cost, disturbs=LOAD)


def test_the_visit_of_who_makes_others_wait_already_ends_sooner() -> None:
    busy = resident("a", in_flight=1, ready_at=NOW - 99)
    waiting = box(busy, wants={"x": want(since=NOW - COST)})
    assert of(waiting).ready_in == COST + COST


def test_one_that_loads_for_others_has_its_visit_after_its_load() -> None:
    loading = resident("a", phase=Phase.STARTING, ready_at=NOW + 3)
    wanted = {"a": want(since=NOW)}
    assert of(box(loading, wants=wanted)).ready_in == pytest.approx(3 + 2 * COST + COST)


def test_one_that_has_more_to_serve_than_slots_is_expected_to_stay_for_its_longest_visit() -> None:
    loading = resident("a", phase=Phase.STARTING, ready_at=NOW + 3)
    wanted = {"a": want(5, since=NOW)}
    assert of(box(loading, wants=wanted)).ready_in == pytest.approx(3 + 8 * COST + COST)


def test_a_claim_is_ready_after_those_who_leave_for_it() -> None:
    leaving = resident("a", phase=Phase.SWITCHING, in_flight=1, service_s=2.0)
    promised = box(leaving, wants={"x": want()}, claims=(claim("x", 20, "a"),))
    assert of(promised) == Prospect(STOP + 2.0 + LOAD)


def test_behind_a_claim_there_is_its_load_and_its_visit() -> None:
    leaving = resident("a", phase=Phase.STOPPING)
    promised = box(leaving, wants={"b": want()}, claims=(claim("b", 20, "a"),))
    assert of(promised).ready_in == pytest.approx(STOP + LOAD + 2 * LOAD + LOAD)


def test_room_that_comes_back_is_there_when_who_leaves_has_left() -> None:
    assert of(box(resident("a", phase=Phase.STOPPING))) == Prospect(STOP + LOAD)


def test_one_that_leaves_itself_can_come_back_when_it_has_left() -> None:
    assert of(box(resident("x", 20, phase=Phase.STOPPING))) == Prospect(STOP + LOAD)


def test_what_can_never_come_has_no_prospect() -> None:
    assert of(box(resident("a", pinned=True))) == NEVER
    assert of(box(), candidate=replace(needs(20), retry_at=NOW + 9)) == NEVER


def test_the_outlook_is_worked_out_anew_when_something_matters_and_for_those_who_wait() -> None:
    outlook, asked = Outlook(), 0

    def candidates() -> dict[str, Candidate]:
        nonlocal asked
        asked += 1
        return {m: needs(20) for m in "xy"}

    idle = resident("a", last_used=NOW - 90)
    assert outlook.of(box(idle), candidates)["y"].ready_in == COST
    assert outlook.of(box(idle, now=NOW + 0.9), candidates)["y"].ready_in == COST
    assert asked == 1
    assert outlook.of(box(idle, now=NOW + 1.0), candidates)["y"].ready_in == COST
    assert asked == 2
    busy = replace(idle, in_flight=1)
    assert outlook.of(box(busy, now=NOW + 1.1), candidates)["y"].ready_in == 3 * COST
    assert asked == 3
    line = {"a": want(9, since=NOW + 1.1)}
    full = outlook.of(box(busy, wants=line, now=NOW + 1.2), candidates)
    assert full["y"].ready_in == pytest.approx(5 * COST)
    assert outlook.of(box(busy, now=NOW + 1.3), candidates)["y"].ready_in == 3 * COST
    assert asked == 5
    waiting = {"x": want(since=NOW + 1.1)}
    later = outlook.of(box(busy, wants=waiting, now=NOW + 1.6), candidates)
    assert later["x"].ready_in == pytest.approx(3 * COST - 0.5)
    assert asked == 5
