"""A box with an engine that cannot be ended: its GPU is fenced, and nobody hangs on it."""

from __future__ import annotations

from shared.status import ModelStatus, Phase
from sidecar.box import Box
from sidecar.engine import Model
from sidecar.machine import Fact
from sidecar.memory import HOST, Need
from sidecar.report import report
from tests.core.test_box import CRASH, LIMITS, SPAWN, did, phase, says
from tests.core.test_box_memory import GIB, look, make_box, model, ready, seen

STUCK_AT = 25.0  # when that shows: two times 10 s, and 5 s


def whole(id: str) -> Model:
    return Model(id, 2, Need(None, "unknown", on_host=False), LIMITS)


def stuck(box: Box, id: str = "a") -> None:
    """Ready, told to go at 0, and never gone."""
    ready(box, id)
    look(box, *[0] * (len(box.inventory.capacity) - 1), a=16)
    box.unload(id, 0)
    for now in (10, 20, STUCK_AT):
        box.tick(now)
    assert box.engines[id].machine.unkillable


def told(box: Box, id: str, now: float) -> ModelStatus:
    return next(m for m in report(box, seen(0), now, 1e9).models if m.id == id)


def cause(box: Box, id: str) -> str | None:
    failure = box.engines[id].machine.failure
    return failure.cause if failure else None


def test_it_stays_stopping_and_is_told_with_its_pid_and_its_gpu() -> None:
    box = make_box(model("a"))
    stuck(box)
    now = told(box, "a", STUCK_AT)
    assert now.phase is Phase.STOPPING
    assert now.error is not None
    assert (now.error.code, now.error.cause) == ("load_failed", "unkillable")
    assert report(box, seen(0), STUCK_AT, 1e9).problems == (
        "a: its process cannot be ended (pid 0, or others of its session); nothing is started on "
        "GPU 0; if it stays, the machine may need a reboot",
    )


def test_who_waits_for_it_is_answered_at_once_again_and_again() -> None:
    box = make_box(model("a"))
    stuck(box)
    for now in (30.0, 40.0):
        box.heard("r", says(int(now), a=1), now)
        failure = box.engines["a"].machine.failure
        assert failure is not None
        assert (failure.cause, failure.at) == ("unkillable", now)
        assert not box.inventory.wants()


def test_who_waited_already_when_it_showed_is_answered_then() -> None:
    box = make_box(model("a"), model("b"))
    ready(box, "a")
    box.heard("r", says(1, b=1), 1)
    for now in range(2, 60, 2):
        box.heard("r", says(now, b=1), now)
        box.tick(now)
    assert (cause(box, "a"), cause(box, "b")) == ("unkillable", "unkillable")


def test_nothing_is_started_on_its_gpu_not_even_beside_it() -> None:
    box = make_box(model("a"), model("small", 1))
    stuck(box)
    assert did(box.load("small", 30)) == []
    assert cause(box, "small") == "unkillable"
    assert box.engines["small"].machine.failure is not None
    assert "a cannot be ended, and holds its room" in box.engines["small"].machine.failure.message
    assert not box.demands.by_hand


def test_who_has_room_elsewhere_goes_there() -> None:
    box = make_box(model("a"), model("b"), gpus=2)
    stuck(box)
    assert did(box.load("b", 30)) == [("b", SPAWN)]
    assert box.engines["b"].booking == {"gpu1": 16 * GIB}


def test_who_takes_the_whole_box_has_no_room_elsewhere() -> None:
    box = make_box(model("a"), whole("all"), gpus=2)
    stuck(box)
    box.load("all", 30)
    assert cause(box, "all") == "unkillable"


def test_a_room_that_was_promised_there_is_promised_no_more() -> None:
    box = make_box(model("a"), model("b"), model("pin", pinned=True), gpus=2)
    ready(box, "pin")
    ready(box, "a")
    box.heard("r", says(1, b=1), 1)
    box.unload("a", 1)
    assert [claim.model for claim in box.inventory.claims] == ["b"]
    for now in (11, 21, 26):
        box.heard("r", says(now, b=1), now)
        box.tick(now)
    assert not box.inventory.claims
    assert cause(box, "b") == "unkillable"


def test_what_pins_alone_keep_out_is_not_laid_at_its_door() -> None:
    pin = model("pin", 40, on_host=True, pinned=True)
    box = make_box(model("a"), model("c", 30, on_host=True), pin)
    ready(box, "pin")
    stuck(box)
    box.load("c", 30)
    assert cause(box, "c") is None


def test_of_the_host_only_what_it_holds_is_fenced() -> None:
    box = make_box(
        model("a", 40, on_host=True), model("b", 20, on_host=True), model("c", 30, on_host=True)
    )
    stuck(box)
    assert did(box.load("b", 30)) == [("b", SPAWN)]
    box.load("c", 31)
    assert cause(box, "c") == "unkillable"
    assert "nothing is started" not in " ".join(report(box, seen(0), 31, 1e9).problems)


def test_a_router_is_told_that_nothing_can_be_ready_there() -> None:
    box = make_box(model("a"), model("b"), gpus=2)
    stuck(box)
    assert told(box, "a", STUCK_AT).ready_in_s is None
    assert told(box, "b", STUCK_AT).ready_in_s is not None
    ready(box, "b", 30)
    assert told(box, "a", 30).ready_in_s is None


def test_when_it_ends_at_last_all_is_well_again() -> None:
    box = make_box(model("a"), model("b"))
    stuck(box)
    for now in range(30, 35):
        box.heard("r", says(now, a=1, b=1), now)
    assert box.engines["b"].machine.failures > 2
    box.saw("a", Fact.EXITED, 40)
    look(box, 0, now=41)
    assert phase(box, "a") is Phase.IDLE
    assert (cause(box, "a"), cause(box, "b")) == (None, None)
    assert did(box.heard("r", says(50, b=1), 50)) == [("b", SPAWN)]
    assert not report(box, seen(0), 50, 1e9).problems


def test_an_engine_without_its_main_process_is_no_longer_ready() -> None:
    box = make_box(model("a", on_host=True))
    ready(box, "a")
    assert HOST in box.engines["a"].booking
    box.saw("a", Fact.HEADLESS, 5, CRASH)
    assert phase(box, "a") is Phase.STOPPING
