from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping
from typing import Any

import pytest

from shared.status import LEAVING, Phase
from sidecar.demand import BY_HAND, Want
from sidecar.memory import Bytes, add, fits, subtract
from sidecar.plan import Candidate, Claim, Facts, Plan, Resident, Rules
from sidecar.planner import plan

NOW = 1000.0
LOAD, STOP = 9.0, 1.0
COST = LOAD + STOP  # of a switch whose victims have nothing in flight
ONE_GPU = {"gpu0": 24}
TWO_GPUS = {"gpu0": 24, "gpu1": 24}


def want(count: int = 1, since: float = NOW, priority: int = 0) -> Want:
    return Want({priority: count}, since)


def needs(size: int, *pools: str, load: float = LOAD, retry_at: float = -math.inf) -> Candidate:
    return Candidate(tuple({pool: size} for pool in pools or ("gpu0",)), load, retry_at)


def resident(model: str, size: int = 10, phase: Phase = Phase.READY, **facts: Any) -> Resident:
    stands = {
        "booking": {"gpu0": size},
        "in_flight": 0,
        "slots": 4,
        "ready_at": 0.0,
        "last_used": 0.0,
        "stop_s": STOP,
        "load_s": LOAD,
    }
    return Resident(model, phase, **{**stands, **facts})


def claim(model: str, size: int, *victims: str, pool: str = "gpu0") -> Claim:
    return Claim(model, {pool: size}, victims, "because")


def planned(
    *residents: Resident,
    wants: Mapping[str, Want],
    need: Mapping[str, Candidate] | None = None,
    capacity: Bytes = ONE_GPU,
    claims: tuple[Claim, ...] = (),
    due: Mapping[str, int] | None = None,
    now: float = NOW,
    patience: float = 120.0,
    min_resident: float = 0.0,
    extras: tuple[str, ...] = (),
    one_start_at_a_time: Collection[str] = (),
) -> Plan:
    candidates = {model: needs(20) for model in (*wants, *extras)} | dict(need or {})
    return plan(
        Facts(
            now=now,
            capacity=capacity,
            candidates=candidates,
            residents={r.model: r for r in residents},
            wants=wants,
            due=due or {},
            claims=claims,
            rules=Rules(patience, min_resident),
            extras=extras,
            one_start_at_a_time=one_start_at_a_time,
        )
    )


def starts(decided: Plan) -> list[str]:
    return [start.model for start in decided.starts]


def drains(decided: Plan) -> list[str]:
    return [drain.model for drain in decided.drains]


def claims(decided: Plan) -> list[str]:
    return [claim.model for claim in decided.claims]


# Where there is room.


def test_a_model_that_waits_starts_at_once_where_there_is_room() -> None:
    decided = planned(wants={"a": want(3, since=NOW - 4.2)})
    [start] = decided.starts
    assert (start.model, start.booking) == ("a", {"gpu0": 20})
    assert start.because == "3 waiting, oldest 4.2 s"
    assert (decided.drains, decided.claims, decided.waits) == ((), (), ())
    assert decided.deadline == math.inf


def test_models_stay_together_while_they_fit() -> None:
    decided = planned(
        resident("a", 14), wants={"b": want()}, need={"b": needs(10)}, capacity=ONE_GPU
    )
    assert (starts(decided), drains(decided)) == (["b"], [])


def test_several_models_start_in_one_plan_while_they_fit() -> None:
    need = {"a": needs(10), "b": needs(10), "c": needs(10)}
    decided = planned(wants={m: want() for m in need}, need=need)
    assert starts(decided) == ["a", "b"]
    assert [w.model for w in decided.waits] == ["c"]


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.READY, Phase.SWITCHING, Phase.STOPPING])
def test_a_model_that_has_a_process_is_not_started_again(phase: Phase) -> None:
    assert planned(resident("a", phase=phase), wants={"a": want()}) == Plan()


def test_nobody_waiting_is_no_reason_to_do_anything() -> None:
    assert planned(resident("a"), resident("b"), wants={}) == Plan()


def test_what_an_operator_asks_for_is_said_to_be_asked_for_by_hand() -> None:
    [start] = planned(wants={"a": Want({BY_HAND: 1}, NOW)}).starts
    assert start.because == "asked for by hand"


# Victims.


def test_an_idle_engine_leaves_at_once() -> None:
    decided = planned(resident("a", last_used=NOW - 61), wants={"b": want(3, since=NOW - 4.2)})
    [drain] = decided.drains
    assert (drain.model, starts(decided)) == ("a", [])
    assert drain.because == "b: 3 waiting, oldest 4.2 s; a idle for 61 s"
    [promised] = decided.claims
    assert promised == Claim("b", {"gpu0": 20}, ("a",), "3 waiting, oldest 4.2 s; a idle for 61 s")


def test_idle_goes_before_busy_whatever_was_used_last() -> None:
    decided = planned(
        resident("busy", in_flight=1, last_used=1),
        resident("idle", last_used=2),
        wants={"c": want()},
        need={"c": needs(10)},
    )
    assert drains(decided) == ["idle"]


def test_the_least_recently_used_goes_first() -> None:
    residents = [resident(m, 8, last_used=at) for m, at in [("a", 3), ("b", 1), ("c", 2)]]
    decided = planned(*residents, wants={"d": want()}, need={"d": needs(8)})
    assert drains(decided) == ["b"]


def test_engines_used_at_the_same_time_go_by_their_names() -> None:
    decided = planned(
        resident("b", 12), resident("a", 12), wants={"c": want()}, need={"c": needs(12)}
    )
    assert drains(decided) == ["a"]


def test_victims_that_are_not_needed_are_taken_back() -> None:
    decided = planned(
        resident("small", 4, last_used=1),
        resident("large", 20, last_used=2),
        wants={"c": want()},
        need={"c": needs(18)},
    )
    assert drains(decided) == ["large"]
    residents = [resident(m, n, last_used=at) for m, n, at in [("a", 4, 1), ("b", 10, 2)]]
    decided = planned(*residents, resident("c", 10, last_used=3), wants={"d": want()})
    assert drains(decided) == ["b", "c"]


def test_as_many_go_as_are_needed() -> None:
    residents = [resident(m, 8, last_used=at) for m, at in [("a", 3), ("b", 1), ("c", 2)]]
    decided = planned(*residents, wants={"d": want()}, need={"d": needs(16)})
    assert drains(decided) == ["b", "c"]
    assert decided.claims[0].victims == ("b", "c")


def test_a_pinned_engine_never_goes() -> None:
    decided = planned(resident("a", pinned=True), resident("b"), wants={"c": want()})
    assert (drains(decided), claims(decided)) == ([], [])
    [wait] = decided.waits
    assert wait.model == "c"
    assert wait.because == "1 waiting, oldest 0.0 s; nothing that may leave would make enough room"


def test_an_engine_on_another_gpu_is_no_victim() -> None:
    elsewhere = resident("a", booking={"gpu1": 24}, last_used=1)
    decided = planned(elsewhere, resident("b", 24), wants={"c": want()}, capacity=TWO_GPUS)
    assert drains(decided) == ["b"]


def test_a_load_that_nobody_waits_for_any_more_may_be_a_victim() -> None:
    decided = planned(resident("a", phase=Phase.STARTING), wants={"b": want()})
    assert drains(decided) == ["a"]


@pytest.mark.parametrize("waits", ["by demand", "on the wire"])
def test_a_load_that_somebody_waits_for_is_never_a_victim(waits: str) -> None:
    loading = resident("a", phase=Phase.STARTING, ready_at=0)
    wants = {"b": want(since=0)} | ({"a": want()} if waits == "by demand" else {})
    decided = planned(loading, wants=wants, due={"a": 1} if waits == "on the wire" else {})
    assert drains(decided) == []
    assert [w.model for w in decided.waits] == ["b"]


def test_an_engine_that_leaves_already_is_no_victim_again() -> None:
    leaving = [resident("a", 12, Phase.SWITCHING, in_flight=1), resident("b", 12, Phase.STOPPING)]
    decided = planned(*leaving, wants={"c": want()})
    assert (drains(decided), starts(decided)) == ([], [])
    assert decided.claims == (Claim("c", {"gpu0": 20}, (), "1 waiting, oldest 0.0 s"),)


def test_an_unknown_need_takes_the_whole_box() -> None:
    residents = [resident("a", 1), resident("b", booking={"gpu1": 1}, last_used=NOW)]
    whole = Candidate((dict(TWO_GPUS),), LOAD)
    decided = planned(*residents, wants={"c": want()}, need={"c": whole}, capacity=TWO_GPUS)
    assert drains(decided) == ["a", "b"]


# The visit of a busy engine.


def busy(model: str = "a", size: int = 20, **facts: Any) -> Resident:
    return resident(model, size, in_flight=1, ready_at=NOW - 500, **facts)


def until(decided: Plan) -> float:
    """When the one who waits may ask again."""
    assert (decided.drains, decided.starts, decided.claims) == ((), (), ())
    return decided.deadline - NOW


def test_a_busy_engine_is_served_for_two_switch_costs_from_when_somebody_else_waits() -> None:
    decided = planned(busy(), wants={"b": want(since=NOW - 5)})
    assert until(decided) == -5 + 2 * COST
    [wait] = decided.waits
    assert wait.because == "1 waiting, oldest 5.0 s; a may be served for 15.0 s more"


def test_waiting_from_before_a_visit_does_not_count_again() -> None:
    fresh = resident("a", 20, in_flight=1, ready_at=NOW - 3)
    assert until(planned(fresh, wants={"b": want(since=NOW - 60)})) == -3 + 2 * COST


def test_at_the_end_of_its_visit_a_busy_engine_leaves() -> None:
    decided = planned(busy(), wants={"b": want(since=NOW - 2 * COST)})
    assert drains(decided) == ["a"]
    assert decided.drains[0].because == "b: 1 waiting, oldest 20.0 s; a has had its visit"


def test_the_switch_cost_counts_the_longest_stop_and_the_longest_drain() -> None:
    residents = [
        busy("a", 12, stop_s=3, service_s=2),
        busy("b", 12, stop_s=1, service_s=7),
    ]
    assert until(planned(*residents, wants={"c": want()})) == 2 * (LOAD + 3 + 7)


def test_an_engine_between_two_of_its_requests_will_have_an_answer_to_end() -> None:
    wanted = resident("a", 20, ready_at=NOW, service_s=7)
    wants = {"a": want(), "b": want()}
    assert until(planned(wanted, wants=wants)) == 2 * (COST + 7)


def test_a_full_engine_with_a_line_of_its_own_has_twice_the_visit() -> None:
    full = resident("a", 20, in_flight=4, slots=4, ready_at=NOW - 500)
    assert until(planned(full, wants={"b": want()})) == 2 * COST
    assert until(planned(full, wants={"a": want(), "b": want()})) == 4 * COST
    free = resident("a", 20, in_flight=3, slots=4, ready_at=NOW - 500)
    assert until(planned(free, wants={"a": want(), "b": want()})) == 2 * COST


def test_who_waited_when_an_engine_became_ready_is_served_first() -> None:
    wants = {"a": want(since=NOW - 60), "b": want(since=NOW - 60)}
    fresh = resident("a", 20, in_flight=1, ready_at=NOW - 40)
    assert until(planned(fresh, wants=wants)) == -40 + 8 * COST
    assert drains(planned(fresh, wants={**wants, "a": want()})) == ["a"]  # the batch is served


def test_a_batch_is_served_for_eight_switch_costs_at_most() -> None:
    wants = {"a": want(since=NOW - 90), "b": want(since=NOW - 90)}
    assert drains(planned(resident("a", 20, ready_at=NOW - 80), wants=wants)) == ["a"]


def test_patience_brings_the_end_of_a_visit_forward() -> None:
    full = resident("a", 20, in_flight=4, ready_at=NOW - 500)
    wants = {"a": want(), "b": want(since=NOW - 10)}
    assert until(planned(full, wants=wants, patience=15)) == 5


def test_patience_leaves_a_visit_one_switch_cost() -> None:
    fresh = resident("a", 20, in_flight=1, ready_at=NOW - 3)
    assert until(planned(fresh, wants={"b": want(since=NOW - 60)}, patience=15)) == -3 + COST


def test_the_visit_is_shorter_the_higher_the_priority_of_who_waits() -> None:
    assert until(planned(busy(), wants={"b": want(priority=1)})) == 2 * COST / 4
    assert until(planned(busy(), wants={"b": want(priority=-1)})) == 8 * COST
    assert until(planned(busy(), wants={"b": want(priority=-9)})) == 120  # patience


def test_requests_on_the_wire_make_an_engine_busy() -> None:
    fresh = resident("a", 20, ready_at=NOW)
    wants = {"b": want()}
    assert until(planned(fresh, wants=wants, due={"a": 1})) == 2 * COST
    assert drains(planned(fresh, wants=wants)) == ["a"]


def test_the_visits_of_all_victims_must_have_ended() -> None:
    residents = [
        resident("a", 12, in_flight=1, ready_at=NOW - 500),
        resident("b", 12, in_flight=1, ready_at=NOW - 1),
    ]
    assert until(planned(*residents, wants={"c": want(since=NOW - 60)})) == -1 + 2 * COST


def test_nobody_takes_the_victim_that_somebody_more_urgent_waits_for() -> None:
    wants = {"slow": want(99, NOW - 50), "fast": want(1, NOW - 10)}
    need = {"slow": needs(20, load=90), "fast": needs(20, load=1)}
    decided = planned(busy(), wants=wants, need=need)
    assert until(decided) == -50 + 120
    assert [w.model for w in decided.waits] == ["slow", "fast"]
    assert drains(planned(busy(), wants={"fast": wants["fast"]}, need=need)) == ["a"]


# Who is next.


def order(wants: Mapping[str, Want], patience: float = 120.0, **loads: float) -> list[str]:
    need = {model: needs(20, load=loads.get(model, LOAD)) for model in wants}
    decided = planned(wants=wants, need=need, patience=patience)
    return starts(decided) + [w.model for w in decided.waits]


def test_next_is_who_waited_most_per_second_of_load() -> None:
    wants = {"a": want(1, NOW - 4), "b": want(9, NOW - 4), "c": want(1, NOW - 5)}
    assert order(wants) == ["b", "c", "a"]
    assert order(wants, b=90) == ["c", "a", "b"]


def test_priority_weighs_in_the_choice() -> None:
    wants = {"a": want(1, NOW - 5), "b": want(1, NOW - 2, priority=1)}
    assert order(wants) == ["b", "a"]


@pytest.mark.parametrize("priority", range(3))
def test_a_higher_priority_never_moves_a_model_back(priority: int) -> None:
    def place(priority: int) -> int:
        others = {f"m{n}": want(n, NOW - 2 * n) for n in range(1, 8)}
        return order({**others, "x": want(2, NOW - 3, priority)}).index("x")

    assert place(priority + 1) <= place(priority)


def test_who_waited_beyond_patience_comes_before_all_others_oldest_first() -> None:
    wants = {
        "many": want(99, NOW - 14),
        "late": want(1, NOW - 15),
        "later": want(1, NOW - 16),
        "urgent": want(1, NOW - 14, priority=9),
    }
    assert order(wants, patience=15) == ["later", "late", "urgent", "many"]


def test_among_equals_the_oldest_is_next_and_then_the_name_decides() -> None:
    assert order({"b": want(), "a": want()}) == ["a", "b"]
    assert order({"a": want(2, NOW - 2), "b": want(1, NOW - 2)}) == ["a", "b"]


# Claims.


def test_a_claim_starts_when_its_room_is_there() -> None:
    decided = planned(wants={"b": want()}, claims=(claim("b", 20, "a"),))
    [start] = decided.starts
    assert (start.model, start.booking, start.because) == ("b", {"gpu0": 20}, "because")
    assert decided.claims == ()


def test_a_claim_waits_for_its_victims_and_takes_no_others() -> None:
    leaving = resident("a", 12, Phase.STOPPING)
    decided = planned(
        leaving, resident("c", 12), wants={"b": want()}, claims=(claim("b", 12, "a"),)
    )
    assert decided == Plan(claims=(claim("b", 12, "a"),))


def test_claims_are_served_first_come_first_served() -> None:
    first, second = claim("b", 20, "a"), claim("c", 12)
    wants = {"b": want(), "c": want(9, NOW - 100)}
    leaving = resident("a", 10, Phase.STOPPING)
    assert planned(leaving, wants=wants, claims=(first, second)).starts == ()
    decided = planned(wants=wants, claims=(first, second))
    assert (starts(decided), claims(decided)) == (["b"], [])


def test_a_claim_whose_room_others_have_taken_is_planned_anew() -> None:
    promised = claim("b", 20, "a")
    leaving = resident("a", 20, Phase.STOPPING)
    idle = resident("c", 4)
    less = {"gpu0": 23}
    decided = planned(leaving, idle, wants={"b": want()}, claims=(promised,), capacity=less)
    assert (drains(decided), claims(decided)) == (["c"], ["b"])


def test_a_claim_may_start_before_an_older_one_that_it_does_not_hold_up() -> None:
    wants = {"b": want(), "c": want()}
    older, younger = claim("b", 14, "a"), claim("c", 4)
    leaving = resident("a", 20, Phase.STOPPING)
    decided = planned(leaving, wants=wants, claims=(older, younger))
    assert (starts(decided), claims(decided)) == (["c"], ["b"])


def test_room_that_is_claimed_is_not_given_to_another() -> None:
    decided = planned(
        resident("a", 10, Phase.STOPPING),
        wants={"b": want(), "c": want(9, NOW - 100)},
        need={"c": needs(10)},
        claims=(claim("b", 20, "a"),),
    )
    assert (starts(decided), claims(decided)) == ([], ["b"])
    assert [w.model for w in decided.waits] == ["c"]


def test_room_that_a_claim_leaves_over_is_given_at_once() -> None:
    decided = planned(
        resident("a", 10, Phase.STOPPING),
        wants={"b": want(), "c": want()},
        need={"c": needs(4)},
        claims=(claim("b", 20, "a"),),
    )
    assert (starts(decided), claims(decided)) == (["c"], ["b"])


def test_a_claim_is_dropped_when_nobody_waits_and_its_victim_goes_back() -> None:
    leaving = resident("a", 20, Phase.SWITCHING, in_flight=1)
    decided = planned(leaving, wants={}, claims=(claim("b", 20, "a"),))
    assert claims(decided) == []
    [keep] = decided.keeps
    assert (keep.model, keep.because) == ("a", "nobody waits for b any more")


def test_a_victim_of_two_dropped_claims_goes_back_once() -> None:
    leaving = resident("a", 10, Phase.SWITCHING, in_flight=1)
    decided = planned(leaving, wants={}, claims=(claim("b", 5, "a"), claim("c", 5, "a")))
    assert [keep.model for keep in decided.keeps] == ["a"]


def test_a_victim_that_is_gone_or_stopping_does_not_go_back() -> None:
    stopping = resident("a", 10, Phase.STOPPING)
    decided = planned(stopping, wants={}, claims=(claim("b", 20, "a", "gone"),))
    assert decided == Plan()


def test_a_victim_does_not_go_back_when_another_claim_needs_its_room() -> None:
    leaving = resident("a", 20, Phase.SWITCHING, in_flight=1)
    both = (claim("b", 20, "a"), claim("c", 12))
    decided = planned(leaving, wants={"c": want()}, claims=both)
    assert (decided.keeps, claims(decided)) == ((), ["c"])


def test_of_two_victims_as_many_go_back_as_no_other_claim_needs() -> None:
    leaving = [resident(m, 12, Phase.SWITCHING, in_flight=1) for m in ("a", "b")]
    both = (claim("c", 24, "a", "b"), claim("d", 12))
    decided = planned(*leaving, wants={"d": want()}, claims=both)
    assert [keep.model for keep in decided.keeps] == ["a"]
    assert claims(decided) == ["d"]


def test_the_room_of_a_victim_that_goes_back_is_not_promised_to_anyone() -> None:
    leaving = resident("a", 20, Phase.SWITCHING, in_flight=1)
    decided = planned(leaving, wants={"c": want()}, claims=(claim("b", 20, "a"),))
    assert [keep.model for keep in decided.keeps] == ["a"]
    assert (starts(decided), claims(decided)) == ([], [])
    assert decided.deadline == NOW  # ready again, it may be the victim of c: asked at once


# Two GPUs.


def test_room_that_is_free_now_is_taken_before_room_that_is_still_to_come() -> None:
    leaving = resident("a", 20, Phase.STOPPING)
    both = {"b": needs(20, "gpu0", "gpu1")}
    decided = planned(leaving, wants={"b": want()}, need=both, capacity=TWO_GPUS)
    assert [start.booking for start in decided.starts] == [{"gpu1": 20}]


def test_where_all_gpus_are_taken_room_to_come_is_claimed_on_the_first_that_has_it() -> None:
    leaving = [
        resident("a", 24),
        resident("b", booking={"gpu1": 24}, phase=Phase.STOPPING),
    ]
    both = {"c": needs(20, "gpu0", "gpu1")}
    decided = planned(*leaving, wants={"c": want()}, need=both, capacity=TWO_GPUS)
    assert [(c.booking, c.victims) for c in decided.claims] == [({"gpu1": 20}, ())]
    assert drains(decided) == []


@pytest.mark.parametrize(
    ("on_gpu0", "on_gpu1", "leaves"),
    [
        ({"in_flight": 1, "last_used": 1}, {"last_used": 2}, "b"),  # idle before busy
        ({"last_used": 2}, {"last_used": 1}, "b"),  # least recently used
        ({"last_used": 1}, {"last_used": 1}, "a"),  # all else equal: the first
        ({"pinned": True}, {"in_flight": 1, "last_used": 9}, "b"),
    ],
)
def test_between_gpus_the_choice_that_disturbs_least_is_taken(
    on_gpu0: dict[str, Any], on_gpu1: dict[str, Any], leaves: str
) -> None:
    residents = [
        resident("a", 24, **on_gpu0),
        resident("b", booking={"gpu1": 24}, **on_gpu1),
    ]
    need = {"c": needs(20, "gpu0", "gpu1")}
    wants = {"c": want(since=NOW - 100)}
    decided = planned(*residents, wants=wants, need=need, capacity=TWO_GPUS)
    assert drains(decided) == [leaves]


def test_one_victim_is_better_than_two() -> None:
    residents = [
        resident("a", 12, last_used=1),
        resident("b", 12, last_used=1),
        resident("c", booking={"gpu1": 24}, last_used=1),
    ]
    need = {"d": needs(20, "gpu0", "gpu1")}
    decided = planned(*residents, wants={"d": want()}, need=need, capacity=TWO_GPUS)
    assert drains(decided) == ["c"]


def test_a_set_of_victims_was_used_when_the_last_of_them_was() -> None:
    residents = [
        *(resident(m, 12, last_used=at) for m, at in [("a", 1), ("b", 9)]),
        *(resident(m, booking={"gpu1": 12}, last_used=at) for m, at in [("c", 3), ("d", 4)]),
    ]
    need = {"e": needs(20, "gpu0", "gpu1")}
    decided = planned(*residents, wants={"e": want()}, need=need, capacity=TWO_GPUS)
    assert drains(decided) == ["c", "d"]


# Back-off.


def test_a_model_in_back_off_is_not_tried_and_takes_nobodys_room() -> None:
    need = {"b": needs(20, retry_at=NOW + 7)}
    decided = planned(resident("a"), wants={"b": want()}, need=need)
    assert until(decided) == 7
    assert decided.waits[0].because == "its last load failed; the next try is in 7 s"
    need = {"b": needs(20, retry_at=NOW)}
    assert starts(planned(wants={"b": want()}, need=need)) == ["b"]


def test_the_next_question_is_the_earliest_of_all_that_wait() -> None:
    need = {"b": needs(20), "c": needs(20, retry_at=NOW + 7), "d": needs(20, retry_at=NOW + 70)}
    assert until(planned(busy(), wants={m: want() for m in need}, need=need)) == 7


# Whatever the facts are.


def any_facts(seed: int) -> Facts:
    chance = random.Random(seed)
    residents: dict[str, Resident] = {}
    for n in range(chance.randrange(5)):
        pool = chance.choice(list(TWO_GPUS))
        fresh = resident(
            f"m{n}",
            booking={pool: chance.choice([4, 8, 12])},
            phase=chance.choice([Phase.STARTING, Phase.READY, Phase.SWITCHING, Phase.STOPPING]),
            in_flight=chance.randrange(5),
            ready_at=NOW - chance.choice([0, 5, 50, 500]),
            last_used=NOW - chance.choice([0, 5, 50, 500]),
            pinned=chance.random() < 0.2,
        )
        if fits(add(r.booking for r in [*residents.values(), fresh]), TWO_GPUS):
            residents[fresh.model] = fresh
    wants = {
        f"m{n}": want(chance.randrange(1, 4), NOW - chance.choice([0, 9, 90]), chance.randrange(2))
        for n in range(9)
        if chance.random() < 0.6
    }
    candidates = {
        model: needs(
            chance.choice([4, 8, 12, 24]),
            *chance.choice([("gpu0",), ("gpu0", "gpu1")]),
            retry_at=NOW + chance.choice([-9, -9, -9, 5]),
        )
        for model in wants
    }
    due = {model: 1 for model in residents if chance.random() < 0.2}
    first = Facts(NOW, TWO_GPUS, candidates, residents, wants, due, (), Rules(60))
    kept_wants = {model: w for model, w in wants.items() if chance.random() < 0.8}
    made = tuple(c for c in plan(first).claims if c.model not in residents)
    return Facts(NOW, TWO_GPUS, candidates, residents, kept_wants, due, made, Rules(60))


@pytest.mark.parametrize("block", range(4))
def test_no_plan_breaks_a_promise(block: int) -> None:
    for seed in range(block * 100, block * 100 + 100):
        check(any_facts(seed))


def check(facts: Facts) -> None:
    decided = plan(facts)
    booked = add(r.booking for r in facts.residents.values())
    started = add(start.booking for start in decided.starts)
    free = subtract(facts.capacity, booked)
    assert fits(started, free)
    kept = {keep.model for keep in decided.keeps}
    for name in kept:
        assert facts.residents[name].phase is Phase.SWITCHING
    leaves = {*drains(decided)} | {
        name for name, r in facts.residents.items() if r.phase in LEAVING and name not in kept
    }
    to_come = add([free, add(facts.residents[name].booking for name in leaves)])
    new = [c for c in decided.claims if c not in facts.claims]
    assert not new or fits(add([started, add(c.booking for c in decided.claims)]), to_come)
    for name in drains(decided):
        victim = facts.residents[name]
        assert not victim.pinned
        wanted = name in facts.wants or name in facts.due
        assert victim.phase is Phase.READY or (victim.phase is Phase.STARTING and not wanted)
    answered = [*starts(decided), *claims(decided), *(w.model for w in decided.waits)]
    assert sorted(answered) == sorted(facts.wants.keys() - facts.residents.keys())
    for said in (decided.starts, decided.drains, decided.keeps, decided.claims, decided.waits):
        assert all(entry.because for entry in said)
    assert decided.deadline >= facts.now
