"""What a box does not look at again when a request ends, because it can be nothing new."""

from __future__ import annotations

import random
from dataclasses import replace

from shared.status import Phase
from sidecar.box import Box
from sidecar.machine import Fact
from sidecar.memory import HOST
from tests.core.test_box import STOP, did, loaded, make_box, model, says, waits

ROOM_FOR_TWO = {"gpu0": 16, HOST: 8}
NAMES = "abc"


def fleet() -> Box:
    kept = replace(model("b"), keep_alive=2.0)
    standby = replace(model("c"), standby=True)
    return make_box(model("a"), kept, standby, capacity=ROOM_FOR_TWO)


def test_when_a_request_ends_another_look_would_decide_nothing_more() -> None:
    rng = random.Random(3)
    for _ in range(60):
        box, now, served = fleet(), 0.0, list[tuple[str, float]]()
        for seq in range(1, 60):
            if rng.random() < 0.5:  # the shell is late otherwise, and busy with something else
                box.tick(now)
            now += rng.choice([0.01, 0.1, 1.0])
            match rng.randrange(4):
                case 0:
                    told = {n: waits(rng.randrange(2), sent=seq) for n in rng.sample(NAMES, 2)}
                    box.heard("r", says(seq, **told), now)
                case 1 if served:
                    name, began = served.pop(rng.randrange(len(served)))
                    box.release(name, began, now)
                    deadline, decided = box.deadline(now), (box.waits, box.inventory.claims)
                    assert box.tick(now) == []
                    assert deadline <= box.deadline(now)
                    assert decided == (box.waits, box.inventory.claims)
                case _:
                    name = rng.choice(NAMES)
                    if box.admit(name, "r", now) is None:
                        served.append((name, now))
            do_as_told(box, now)


def do_as_told(box: Box, now: float) -> None:
    """Engines that load and stop in no time."""
    for name, engine in box.engines.items():
        if engine.machine.phase is Phase.STARTING:
            box.saw(name, Fact.HEALTHY, now)
        elif engine.machine.phase is Phase.STOPPING:
            box.saw(name, Fact.EXITED, now)


def test_a_standby_that_is_away_comes_back_when_the_last_request_of_another_ends() -> None:
    box = loaded(make_box(model("a"), replace(model("b"), standby=True)), "a")
    assert box.admit("a", None, 1) is None
    assert box.release("a", 1, 2) == []
    assert box.waits[0].model == "b"
    assert box.deadline(2) < 60


def test_an_idle_model_leaves_at_the_end_of_its_request_for_one_that_waits() -> None:
    box = loaded(make_box(), "a")
    assert box.admit("a", "r", 1) is None
    box.heard("r", says(1, a=waits(0, sent=1), b=waits()), 2)
    assert [wait.model for wait in box.waits] == ["b"]
    assert did(box.release("a", 1, 4)) == [("a", STOP)]
