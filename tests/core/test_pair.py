"""What router and box promise together: turns, bounds on waiting, and what goes wrong."""

from __future__ import annotations

import math
from collections import Counter
from statistics import mean

import pytest

from shared.demand import TTL
from tests.core.pair import Pair
from tests.core.pair_records import Program

LONGEST = 1.3  # of the mean: the longest answer of a client that keeps asking
SMALL = 0.1  # seconds: what messages and their coalescing may cost
NEVER = 1e9  # seconds
REST = TTL + 15.0  # seconds after the last end: all that is forgotten late is forgotten then


# One busy model, and another that is wanted too.


def hog(seed: int, slots: int = 100, routers: int = 1, until: float = 13.0) -> Pair:
    """Four clients that keep A busy, with answers that never end all at once."""
    program = Program(load=2.0, answer=0.3, slots=slots)
    pair = Pair({"A": program, "B": program}, seed, routers=routers)
    for client in range(4):
        pair.keep_asking("A", until, router=client % routers)
    return pair


@pytest.mark.parametrize("seed", range(3))
def test_a_busy_model_lets_another_have_its_turn_after_two_switch_costs(seed: int) -> None:
    pair = hog(seed)
    wanted = pair.ask("B", at=5.0)
    pair.run_until_all_have_ended(within=60.0)
    load, answer, stop = 2.0, LONGEST * 0.3, 0.01
    assert wanted.wait <= 2 * (load + stop + answer) + answer + stop + load + SMALL


@pytest.mark.parametrize("slots", [1, 2])
def test_a_model_that_keeps_its_slots_full_is_let_go_after_four_switch_costs(slots: int) -> None:
    for seed in range(2):
        pair = hog(seed, slots=slots)
        wanted = pair.ask("B", at=5.0)
        pair.run_until_all_have_ended(within=60.0)
        load, answer, stop = 2.0, LONGEST * 0.3, 0.01
        assert wanted.wait <= 4 * (load + stop + answer) + answer + stop + load + SMALL


def test_the_busy_model_loses_no_more_than_two_switches_to_one_request() -> None:
    pair = hog(seed=1)
    pair.ask("B", at=5.0)
    pair.run_until_all_have_ended(within=60.0)
    assert [launch.model for launch in pair.launches] == ["A", "B", "A"]
    waits = [r.wait for r in pair.requests if r.ticket.model == "A" and r.ticket.arrived > 5.0]
    assert max(waits) <= 2 * (2.0 + 0.01) + 2 * LONGEST * 0.3 + SMALL


def test_a_higher_priority_shortens_the_wait_and_a_lower_one_does_not_forbid_it() -> None:
    waits = []
    for priority in (0, 1):
        pair = hog(seed=3)
        waits.append(pair.ask("B", at=5.0, priority=priority))
        pair.run_until_all_have_ended(within=60.0)
    normal, urgent = waits
    assert urgent.wait < normal.wait - 1.0


def test_a_client_that_leaves_before_its_turn_never_causes_a_load() -> None:
    for seed in range(5):
        pair = hog(seed, until=12.0)
        for at in (3.0, 6.0, 9.0):
            pair.ask("B", at=at, stays=pair.random.uniform(0.0, 3.5))
        pair.run_until_all_have_ended(within=60.0)
        pair.run(pair.clock.now + REST)
        assert [launch.model for launch in pair.launches] == ["A"]


def test_when_the_last_who_waits_leaves_the_model_that_drains_for_it_stays() -> None:
    pair = Pair({m: Program(load=1.0, answer=12.0) for m in "AB"}, seed=1)
    pair.ask("A")
    pair.ask("B", at=2.0, stays=6.0)
    later = pair.ask("A", at=9.0)
    pair.run(7.9)
    (launch,) = pair.launches
    assert launch.told is not None, "it finishes what it has and takes no more"
    pair.run_until_all_have_ended(within=60.0)
    assert pair.launches == [launch]
    assert later.wait <= SMALL


def test_a_client_that_leaves_takes_nothing_from_another_that_stays() -> None:
    pair = hog(seed=5)
    pair.ask("B", at=5.0, stays=1.0)
    stays = pair.ask("B", at=5.5)
    pair.run_until_all_have_ended(within=60.0)
    assert stays.ends == ["answered"]


def test_a_router_that_dies_is_forgotten_and_its_demand_loads_nothing_more() -> None:
    for seed in range(5):
        pair = Pair({m: Program(load=4.0) for m in "AB"}, seed, routers=2)
        for _ in range(4):
            pair.keep_asking("A", until=18.0)
        pair.ask("B", at=5.0, router=1)
        pair.clock.at(5.0 + pair.random.uniform(0.1, 4.0), pair.routers[1].dies)
        pair.run_until_all_have_ended(within=60.0)
        assert [launch.model for launch in pair.launches] == ["A"]


# Models that take turns.


def test_alternation_costs_a_load_and_hardly_more() -> None:
    pair = Pair({m: Program(load=2.0) for m in "AB"}, seed=1)
    for turn in range(10):
        pair.ask("AB"[turn % 2], at=1.0 + 4.0 * turn)
    pair.run_until_all_have_ended(within=60.0)
    assert max(pair.waits) <= 2.0 + 0.01 + SMALL


def test_models_that_are_all_busy_change_no_more_often_than_their_visits_allow() -> None:
    for seed in range(2):
        pair = Pair({m: Program(load=2.0) for m in "ABC"}, seed)
        for client in range(6):
            pair.keep_asking("ABC"[client % 3], until=36.0)
        pair.run_until_all_have_ended(within=120.0)
        visit, switch = 2 * 2.0, 2.0
        assert len(pair.launches) <= 3 + pair.clock.now / (visit + switch)
        others = 2 * (2 * (2.0 + LONGEST * 0.3) + LONGEST * 0.3 + switch)
        assert max(pair.waits) <= others + switch + SMALL, "and none is forgotten"


def test_a_model_that_loads_slowly_does_not_starve_among_busy_ones_that_load_fast() -> None:
    programs = {"A": Program(load=1.0), "B": Program(load=1.0), "slow": Program(load=10.0)}
    pair = Pair(programs, seed=1, patience=20.0)
    for client in range(6):
        pair.keep_asking("AB"[client % 2], until=60.0)
    wanted = pair.ask("slow", at=5.0)
    pair.run_until_all_have_ended(within=150.0)
    visit = 2 * (10.0 + LONGEST * 0.3)
    assert wanted.wait <= 20.0 + visit + LONGEST * 0.3 + 10.0 + SMALL


def test_the_mean_wait_of_random_traffic_is_what_the_rules_were_chosen_for() -> None:
    """On one place, loads of 2 s: 3.1 to 3.2 s in the simulation that the rules come from."""
    waits = []
    for seed in range(3):
        pair = Pair({m: Program(load=2.0, answer=0.3) for m in "ABC"}, seed)
        pair.poisson(rate=2.0, seconds=30.0, models="ABC")
        pair.run_until_all_have_ended(within=120.0)
        waits.append(mean(pair.waits))
    assert 2.6 <= mean(waits) <= 3.7


def test_who_waits_beyond_patience_is_next_whatever_the_others_have_waited() -> None:
    """A crowd for B and C, and one for D, that would be last by the sum of waiting."""
    served = {}
    for patience in (1.0, NEVER):
        pair = Pair({m: Program(load=2.0) for m in "ABCD"}, seed=2, patience=patience)
        pair.ask("A", at=0.2)
        lonely = pair.ask("D", at=0.3)
        for _ in range(8):
            pair.ask("B", at=0.4)
            pair.ask("C", at=0.4)
        pair.run_until_all_have_ended(within=60.0)
        served[patience] = lonely.wait
    assert served[1.0] < served[NEVER] - 2.0


# What goes wrong.


@pytest.mark.parametrize("boxes", [1, 2])
def test_a_model_that_never_loads_is_tried_ever_less_and_all_who_wait_hear_of_it(
    boxes: int,
) -> None:
    programs = {"good": Program(load=1.0), "bad": Program(load=1.0, fails=True)}
    pair = Pair(programs, seed=1, boxes=boxes)
    seconds = 160
    for second in range(seconds):
        pair.ask("bad", at=1.0 + second)
    for at in range(1, seconds, 10):
        pair.ask("good", at=float(at))
    pair.run_until_all_have_ended(within=300.0)
    ends = Counter((request.ticket.model, *request.ends) for request in pair.requests)
    assert ends == {("bad", "load_failed"): seconds, ("good", "answered"): seconds // 10}
    tries = sum(launch.model == "bad" for launch in pair.launches)
    forgiven = 2  # before the back-off begins: 10 s, doubling
    assert tries <= boxes * (forgiven + 1 + math.log2(seconds / 10))


def test_those_who_wait_for_an_engine_that_crashes_are_served_by_the_next() -> None:
    crashing = Program(load=1.0, slots=1, crashes=0.3)
    for seed in range(3):
        pair = Pair({"A": crashing}, seed)
        for _ in range(12):
            pair.ask("A")
        pair.run_until_all_have_ended(within=120.0)
        ends = Counter(end for request in pair.requests for end in request.ends)
        assert ends["answered"] + ends["engine_died"] == 12
        assert len(pair.launches) <= 1 + ends["engine_died"]


def test_a_box_that_restarts_serves_all_who_were_not_being_served() -> None:
    for seed in range(4):
        pair = Pair({m: Program(load=2.0, slots=2) for m in "AB"}, seed, routers=2)
        pair.poisson(rate=2.0, seconds=12.0, models="AB")
        pair.clock.at(pair.random.uniform(2.0, 10.0), pair.sidecars["box0"].restart, 1.0)
        pair.run_until_all_have_ended(within=120.0)
        ends = Counter(end for request in pair.requests for end in request.ends)
        assert set(ends) <= {"answered", "engine_died"}
        assert ends["engine_died"] <= 2, "as many as had a slot"


@pytest.mark.parametrize(("down", "end"), [(10.0, "answered"), (30.0, "box_unreachable")])
def test_a_box_that_is_away_is_waited_for_but_not_for_ever(down: float, end: str) -> None:
    pair = Pair({"A": Program(load=1.0)}, seed=1)
    pair.clock.at(1.0, pair.sidecars["box0"].restart, down)
    request = pair.ask("A", at=2.0)
    pair.run_until_all_have_ended(within=60.0)
    assert request.ends == [end]


def test_messages_that_are_lost_cost_time_and_nobody_an_answer() -> None:
    for seed in range(3):
        pair = Pair({m: Program(load=1.0) for m in "AB"}, seed, routers=2, loss=0.3)
        pair.poisson(rate=2.0, seconds=10.0, models="AB")
        pair.run_until_all_have_ended(within=60.0)
        assert all(request.ends == ["answered"] for request in pair.requests)


# Several routers.


def test_routers_that_want_a_cold_model_at_once_load_it_once() -> None:
    for seed in range(8):
        pair = Pair({"A": Program(load=1.0)}, seed, boxes=3, routers=3)
        for router in range(3):
            pair.ask("A", at=1.0 + pair.random.uniform(0.0, 0.005), router=router)
        pair.run_until_all_have_ended(within=30.0)
        assert len(pair.launches) == 1


def test_a_model_that_one_router_made_a_box_load_is_not_loaded_for_another_elsewhere() -> None:
    for seed in range(3):
        pair = Pair({m: Program(load=1.0) for m in "ABCD"}, seed, boxes=6, routers=2)
        for first, second in zip("ABCD", "DCBA", strict=True):
            pair.ask(first, at=0.5, router=0)
            pair.ask(second, at=1.0, router=1)
        pair.run_until_all_have_ended(within=30.0)
        assert sorted(launch.model for launch in pair.launches) == list("ABCD")


@pytest.mark.parametrize("routers", [1, 2, 3])
def test_refusals_are_few_even_where_every_slot_is_always_taken(routers: int) -> None:
    """One router knows what it has sent; several race for each slot that becomes free."""
    pair = Pair({"A": Program(load=1.0, slots=2)}, seed=1, routers=routers)
    for client in range(9):
        pair.keep_asking("A", until=8.0, router=client % routers)
    pair.run_until_all_have_ended(within=60.0)
    assert pair.refusals <= (len(pair.requests) * routers if routers > 1 else 2)


def test_refusals_are_rare_while_there_are_slots() -> None:
    pair = Pair({m: Program(load=1.0, slots=8) for m in "AB"}, seed=1, routers=3)
    pair.poisson(rate=5.0, seconds=15.0, models="AB")
    pair.run_until_all_have_ended(within=60.0)
    assert pair.refusals <= len(pair.requests) / 20


def test_two_routers_share_a_busy_model_and_take_turns_as_one() -> None:
    for seed in range(2):
        pair = hog(seed, routers=2)
        wanted = pair.ask("B", at=5.0, router=1)
        pair.run_until_all_have_ended(within=60.0)
        assert [launch.model for launch in pair.launches] == ["A", "B", "A"]
        assert wanted.wait <= 3 * 2.0 + 4 * LONGEST * 0.3 + SMALL


# Several boxes.


def hot_model(copies_in: float, rate: float, seed: int) -> Pair:
    """Requests for A alone, on boxes that take one model each."""
    pair = Pair({"A": Program(load=copies_in, answer=1.0, slots=2)}, seed, boxes=4, routers=2)
    pair.poisson(rate=rate, seconds=40.0, models="A")
    return pair


def test_a_hot_model_gets_as_many_copies_as_its_line_needs() -> None:
    """Six requests a second of which a box serves two."""
    for seed in range(3):
        pair = hot_model(copies_in=3.0, rate=6.0, seed=seed)
        pair.run_until_all_have_ended(within=200.0)
        assert len({launch.box for launch in pair.launches}) == 4
        assert len(pair.launches) == 4, "each box loads it once"
        late = [request.wait for request in pair.requests if request.ticket.arrived > 25.0]
        assert mean(late) <= 3.0


def test_a_model_whose_line_is_short_has_one_copy() -> None:
    for seed in range(5):
        pair = hot_model(copies_in=10.0, rate=0.5, seed=seed)
        pair.run_until_all_have_ended(within=200.0)
        assert len(pair.launches) == 1


@pytest.mark.parametrize("boxes", [2, 4])
def test_a_load_that_fails_everywhere_empties_two_boxes_at_most(boxes: int) -> None:
    programs = {f"good{n}": Program(load=1.0) for n in range(boxes)}
    programs["bad"] = Program(load=1.0, fails=True)
    pair = Pair(programs, seed=1, boxes=boxes)
    for n in range(boxes):
        pair.ask(f"good{n}", at=0.5)
    pair.run(15.0)
    assert {launch.model for launch in pair.launches} == programs.keys() - {"bad"}
    for second in range(60):
        pair.ask("bad", at=15.0 + second)
    pair.run_until_all_have_ended(within=100.0)
    assert all(r.ends == ["load_failed"] for r in pair.requests if r.ticket.model == "bad")
    emptied = {launch.box for launch in pair.launches if launch.model == "bad"}
    assert len(emptied) <= 2
