"""What holds at every moment of every storm: over many seeds, some of everything at once."""

from __future__ import annotations

import random

import pytest

from shared.demand import TTL
from tests.core.pair import FAR, FIRST_HEARING, LOCAL, Pair
from tests.core.pair_judge import EPSILON, REST, alive_at_start_of, waited_for
from tests.core.pair_records import Launch, Program
from tests.core.storms import STORMS

NEVER = 1e9  # seconds


def storm(seed: int, loss: float = 0.0) -> Pair:
    """Some of everything, all of it by the seed: models that differ, clients that leave, engines
    that crash or never load, a box that restarts and a router that dies."""
    chance = random.Random(seed)
    room, routers, boxes = chance.randint(1, 4), chance.randint(1, 3), chance.randint(1, 3)
    models = "ABCDE"[: chance.randint(2, 5)]
    pair = Pair(
        {model: _some_program(chance, room) for model in models},
        seed,
        boxes=boxes,
        routers=routers,
        room=room,
        delays=chance.choice((LOCAL, FAR)),
        loss=loss,
        patience=NEVER,
    )
    seconds = chance.choice((5.0, 20.0, 40.0))
    for _ in range(20):
        model = chance.choice(models)
        pair.ask(
            model,
            at=FIRST_HEARING + chance.random() * seconds,
            router=chance.randrange(routers),
            answer=pair.programs[model].answer * chance.uniform(0.3, 1.5),
            stays=chance.uniform(0.0, 8.0) if chance.random() < 0.2 else None,
        )
    if chance.random() < 0.3:
        box = pair.sidecars[f"box{chance.randrange(boxes)}"]
        pair.clock.at(chance.random() * seconds, box.restart, chance.uniform(0.2, 3.0))
    if routers > 1 and chance.random() < 0.3:
        pair.clock.at(chance.random() * seconds, pair.routers[0].dies)
    pair.run_until_all_have_ended(within=900.0)
    return pair


def _some_program(chance: random.Random, room: int) -> Program:
    return Program(
        load=chance.choice((0.3, 1.0, 2.0, 5.0)),
        stop=chance.choice((0.01, 0.3)),
        answer=chance.choice((0.05, 0.3, 2.0)),
        slots=chance.choice((1, 2, 4, 100)),
        need=chance.randint(1, room),
        fails=chance.random() < 0.08,
        crashes=chance.choice((0.0, 0.0, 0.05)),
        drain=chance.choice((600.0, 600.0, 1.0)),
    )


@pytest.fixture(scope="module")
def storms() -> list[Pair]:
    return [storm(seed) for seed in range(8 * STORMS)]


@pytest.fixture(scope="module")
def lossy_storms() -> list[Pair]:
    return [storm(seed, loss=0.2) for seed in range(10_000, 10_000 + 6 * STORMS)]


@pytest.fixture(scope="module")
def all_storms(storms: list[Pair], lossy_storms: list[Pair]) -> list[Pair]:
    return storms + lossy_storms


@pytest.fixture(scope="module")
def told_to_go(storms: list[Pair]) -> list[tuple[Pair, Launch]]:
    """Engines that had to go, where every message arrived."""
    return [(pair, one) for pair in storms for one in pair.launches if one.told is not None]


# What holds in every storm.


def test_every_request_is_answered_or_told_why_not_exactly_once(all_storms: list[Pair]) -> None:
    ends = [request.ends for pair in all_storms for request in pair.requests]
    assert all(len(end) == 1 for end in ends)
    kinds = {end[0] for end in ends}
    assert kinds == {"answered", "left", "load_failed", "engine_died", "router_died"}


def test_no_box_ever_holds_more_than_its_memory(all_storms: list[Pair]) -> None:
    for pair in all_storms:
        for launch in pair.launches:
            held = sum(other.program.need for other in alive_at_start_of(launch, pair))
            assert held <= pair.room


def test_no_box_ever_runs_two_engines_of_one_model(all_storms: list[Pair]) -> None:
    for pair in all_storms:
        for launch in pair.launches:
            models = [other.model for other in alive_at_start_of(launch, pair)]
            assert models.count(launch.model) == 1


def test_no_engine_is_stopped_with_requests_in_flight_before_its_drain_limit(
    all_storms: list[Pair],
) -> None:
    limited = Pair({m: Program(load=1.0, answer=20.0, drain=3.0) for m in "AB"}, seed=1)
    for model in "AAB":
        limited.ask(model)
    limited.run_until_all_have_ended(within=120.0)
    assert [request.ends for request in limited.requests[:2]] == [["engine_died"]] * 2
    for pair in (limited, *all_storms):
        for launch in pair.launches:
            if launch.signalled is not None and launch.in_flight_when_signalled:
                assert launch.told is not None
                assert launch.signalled >= launch.told + launch.program.drain - EPSILON


def test_no_load_is_ended_while_somebody_waits_for_it(
    told_to_go: list[tuple[Pair, Launch]],
) -> None:
    loading = [(pair, launch) for pair, launch in told_to_go if launch.ready is None]
    assert not any(waited_for(launch, pair) for pair, launch in loading)


def test_an_engine_that_got_ready_serves_somebody_before_it_is_told_to_go(
    told_to_go: list[tuple[Pair, Launch]],
) -> None:
    for pair, launch in told_to_go:
        if launch.ready is not None and not launch.served:
            assert not waited_for(launch, pair)


def test_a_busy_engine_is_not_told_to_go_before_two_switch_costs(
    told_to_go: list[tuple[Pair, Launch]],
) -> None:
    visits = []
    for pair, launch in told_to_go:
        busy = launch.in_flight_when_told or waited_for(launch, pair)
        if launch.ready is not None and launch.told is not None and busy:
            loads = [p.load for model, p in pair.programs.items() if model != launch.model]
            visits.append(launch.told - launch.ready - 2 * min(loads))
    assert visits, "some were told while they were busy"
    assert min(visits) >= -EPSILON


def test_after_the_last_end_everything_comes_to_rest(all_storms: list[Pair]) -> None:
    for pair in all_storms[::2]:
        begun = len(pair.launches)
        still_wanted = pair.clock.now + TTL + max(p.load for p in pair.programs.values())
        pair.run(pair.clock.now + REST)
        assert pair.is_at_rest()
        assert all(launch.started < still_wanted for launch in pair.launches[begun:])
