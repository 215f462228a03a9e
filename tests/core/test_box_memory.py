"""A box and the memory of its GPUs: waited for, given up, tried once more."""

from __future__ import annotations

from dataclasses import replace

from shared.status import ModelStatus, Phase, Step
from sidecar.box import Box
from sidecar.engine import Model
from sidecar.failure import Exit
from sidecar.machine import Fact
from sidecar.memory import HOST, Gpu, Host, Memory, Need
from sidecar.plan import Rules
from sidecar.report import report
from tests.core.test_box import CRASH, LIMITS, SPAWN, STOP, did, phase, says, waits

GIB = 2**30
OOM = Exit("vram_oom", "exited with code 1", ("CUDA error: out of memory",), "out of memory")
ESTIMATED = Need(16 * GIB, "estimated", on_host=False)


def make_box(*models: Model, gpus: int = 1) -> Box:
    pools = {f"gpu{n}": 24 * GIB for n in range(gpus)} | {HOST: 64 * GIB}
    box = Box("box1", "9f2c", {m.id: m for m in models}, pools, Rules(120.0), now=0.0)
    box.supplied(pools, {f"GPU-{n}": f"gpu{n}" for n in range(gpus)})
    look(box, *[0] * gpus)
    return box


def model(id: str, gib: int = 16, *, on_host: bool = False, pinned: bool = False) -> Model:
    return Model(id, 2, Need(gib * GIB, "declared", on_host), LIMITS, pinned=pinned)


def guessed(id: str) -> Model:
    return Model(id, 2, ESTIMATED, LIMITS)


def seen(*used: float) -> Memory:
    """In GiB, by GPU."""
    gpus = (Gpu(n, f"GPU-{n}", "", 24 * GIB, int(u * GIB), None) for n, u in enumerate(used))
    return Memory(Host(64 * GIB, 0, 64 * GIB), tuple(gpus))


def look(box: Box, *used: float, now: float = 0.0, **told: float) -> list[tuple[str, object]]:
    """`told`: what each model's processes take of GPU 0."""
    pids = {id: n for n, id in enumerate(told)}
    uses = {pids[id]: {"gpu0": int(size * GIB)} for id, size in told.items()}
    return list(did(box.looked(replace(seen(*used), uses=uses), pids, now)))


def ready(box: Box, id: str, now: float = 0.0) -> None:
    assert did(box.load(id, now)) == [(id, SPAWN)]
    box.saw(id, Fact.HEALTHY, now)


def shown(box: Box, id: str, now: float) -> ModelStatus:
    status = report(box, seen(0), now, 1e9)
    return next(m for m in status.models if m.id == id)


def failure(box: Box, id: str) -> tuple[str, str] | None:
    failed = box.engines[id].machine.failure
    return (failed.cause, failed.message) if failed else None


# Needs.


def test_models_that_nobody_wrote_down_stay_together_once_they_were_measured() -> None:
    box = make_box(guessed("a"), guessed("b"))
    ready(box, "a")
    look(box, 6, a=6)
    assert did(box.heard("r", says(1, b=1), 1)) == [("b", SPAWN)]
    a = shown(box, "a", 1)
    assert (a.memory_bytes, a.memory_source, a.measured_bytes) == (6 * GIB, "learned", 6 * GIB)
    b = shown(box, "b", 1)
    assert (b.memory_bytes, b.memory_source, b.measured_bytes) == (16 * GIB, "estimated", None)


def test_what_was_measured_is_worth_keeping_and_what_was_not_is_nothing() -> None:
    box = make_box(guessed("a"))
    ready(box, "a")
    box.learned = False
    look(box, 6, a=6)
    assert box.learned
    again = make_box(guessed("a"))
    again.recall({"a": box.engines["a"].history.measured})
    assert shown(again, "a", 0).memory_bytes == 6 * GIB


def test_the_planner_is_told_that_only_differences_tell_until_a_process_was_named() -> None:
    box = make_box(model("a"))
    assert box.inventory.facts({}, 0).one_start_at_a_time == {"gpu0"}
    ready(box, "a")
    look(box, 6, a=6)
    assert not box.inventory.facts({}, 0).one_start_at_a_time


def test_who_takes_more_than_was_declared_leaves_others_no_more_than_there_is() -> None:
    box = make_box(model("a", 6), model("b", 16))
    ready(box, "a")
    look(box, 16, a=16)
    assert did(box.heard("r", says(1, b=1), 1)) == [("a", STOP)]
    assert shown(box, "a", 1).memory_bytes == 6 * GIB
    box.saw("a", Fact.EXITED, 2)
    assert look(box, 0, now=2) == [("b", SPAWN)]


def test_who_takes_more_than_was_thought_while_it_loads_leaves_others_what_is_left() -> None:
    box = make_box(guessed("a"), model("b", 7))
    box.load("a", 0)
    look(box, 18, now=1, a=18)
    assert did(box.heard("r", says(1, b=1), 2)) == []


def test_a_pinned_model_that_takes_more_than_was_declared_is_told_with_what_it_takes() -> None:
    box = make_box(model("a", 6, pinned=True), model("b", 16))
    ready(box, "a")
    look(box, 16, a=16)
    for second in range(6):
        box.heard("r", says(second + 1, b=waits(1, oldest=second)), second)
    assert failure(box, "b") == (
        "vram_oom",
        "needs 16.0 GiB, GPU 0 has 8.0 GiB of 24.0 GiB: "
        "16.0 GiB are booked by pinned models, which never leave",
    )


# Waiting for memory.


def test_the_claim_that_waits_for_the_room_starts_when_it_is_really_there() -> None:
    box = make_box(model("a"), model("b"))
    ready(box, "a")
    look(box, 16, a=16)
    assert did(box.heard("r", says(1, b=1), 1)) == [("a", STOP)]
    assert box.saw("a", Fact.EXITED, 2) == []
    status = report(box, seen(16), 2, 1e9)
    assert (status.phase, status.step) == (Phase.STOPPING, Step.AWAITING_VRAM)
    [switch] = status.switches
    assert (switch.to, switch.phase, switch.step) == ("b", Phase.STOPPING, Step.AWAITING_VRAM)
    assert look(box, 8, now=2.1) == []
    assert look(box, 0, now=2.2) == [("b", SPAWN)]
    assert box.engines["a"].history.measured.stops_s == (1.2,)  # until its room was there


def test_memory_that_stays_away_holds_up_a_box_for_5_s_and_is_told() -> None:
    box = make_box(model("a"), model("b", 6))
    ready(box, "a")
    look(box, 16, a=16)
    box.unload("a", 1)
    box.saw("a", Fact.EXITED, 1)
    look(box, 10, now=2)
    assert box.deadline(2) == 7
    box.tick(7)
    assert phase(box, "a") is Phase.IDLE
    [problem] = report(box, seen(10), 7, 1e9).problems
    assert problem.startswith("GPU 0: 10.0 GiB of a did not come back within 5 s")
    assert did(box.heard("r", says(1, a=1, b=1), 8)) == [("b", SPAWN)]


def test_a_crash_is_told_at_once_and_is_no_stop_that_was_measured() -> None:
    box = make_box(model("a"))
    ready(box, "a")
    look(box, 16, a=16)
    box.saw("a", Fact.EXITED, 2, CRASH)
    assert (phase(box, "a"), failure(box, "a")) == (
        Phase.STOPPING,
        ("crashed", "exited with code 1"),
    )
    look(box, 0, now=3)
    assert (phase(box, "a"), box.engines["a"].history.stop) == (Phase.IDLE, None)


def test_an_engine_on_the_host_is_gone_when_its_process_is() -> None:
    box = make_box(model("h", 40, on_host=True), model("i", 40, on_host=True))
    ready(box, "h")
    assert did(box.heard("r", says(1, i=1), 1)) == [("h", STOP)]
    assert did(box.saw("h", Fact.EXITED, 1.1)) == [("i", SPAWN)]


# Room that others hold.


def stuck(box: Box, now: float) -> None:
    box.ledger.waits_for_others(["a"], now)


def test_who_waits_for_what_strangers_hold_is_shown_so_and_told_after_5_s() -> None:
    box = make_box(model("a"))
    look(box, 20)
    box.heard("r", says(1, a=1), 0)
    stuck(box, 0)
    assert shown(box, "a", 0).step == Step.AWAITING_VRAM
    assert box.deadline(0) <= 5
    box.heard("r", says(2, a=waits(1, oldest=5)), 5)
    assert failure(box, "a") == (
        "vram_oom",
        "needs 16.0 GiB, GPU 0 has 4.0 GiB of 24.0 GiB: 20.0 GiB are used by others",
    )
    assert "a" not in box.inventory.wants()


def test_a_box_that_closes_waits_for_nobodys_room() -> None:
    box = make_box(model("a"))
    stuck(box, 0)
    box.close(1)
    assert box.ledger.stuck == {}


def test_a_box_that_closes_waits_for_no_memory_of_its_own_engines() -> None:
    box = make_box(model("a", 10), model("b", 10))
    ready(box, "a")
    ready(box, "b")
    look(box, 20, a=10, b=10)
    box.unload("a", 1)
    box.saw("a", Fact.EXITED, 1)
    assert phase(box, "a") is Phase.STOPPING
    box.close(2)
    assert box.deadline(2) == 2
    box.tick(2)
    assert phase(box, "a") is Phase.IDLE
    box.saw("b", Fact.EXITED, 3)
    assert phase(box, "b") is Phase.IDLE
    assert report(box, seen(20), 3, 1e9).problems == ()


# A load that dies of memory.


def test_a_load_that_dies_of_memory_is_tried_once_more_before_anybody_is_told() -> None:
    box = make_box(guessed("a"))
    box.heard("r", says(1, a=1), 0)
    [story] = box.switches
    assert box.saw("a", Fact.EXITED, 1, OOM) == []
    told = shown(box, "a", 1)
    assert (told.phase, told.step, told.error) == (Phase.STOPPING, Step.AWAITING_VRAM, None)
    [entry] = report(box, seen(0), 1, 1e9).plan
    assert entry.because == "ran out of memory; one more model leaves and it is tried again"
    assert box.engines["a"].candidate({}).again
    assert look(box, 0, now=1.1) == [("a", SPAWN)]
    assert list(box.switches) == [story]
    box.saw("a", Fact.EXITED, 2, OOM)
    assert failure(box, "a") == ("vram_oom", "exited with code 1: out of memory")
    assert not box.engines["a"].candidate({}).again
    assert look(box, 0, now=2.1) == []
    assert (box.switches, box.engines["a"].machine.failures) == ({}, 1)


def test_the_story_of_a_switch_goes_on_while_its_model_is_tried_again() -> None:
    box = make_box(model("a"), model("b"))
    ready(box, "a")
    look(box, 16, a=16)
    box.heard("r", says(1, b=1), 1)
    box.saw("a", Fact.EXITED, 2)
    look(box, 0, now=2)
    box.saw("b", Fact.EXITED, 3, OOM)
    [switch] = report(box, seen(0), 3, 1e9).switches
    assert (switch.from_, switch.phase, switch.step) == (
        ("a",),
        Phase.STOPPING,
        Step.AWAITING_VRAM,
    )


def test_on_the_host_it_is_tried_again_at_once() -> None:
    box = make_box(model("h", on_host=True))
    box.heard("r", says(1, h=1), 0)
    assert did(box.saw("h", Fact.EXITED, 1, OOM)) == [("h", SPAWN)]
    box.saw("h", Fact.HEALTHY, 2)
    assert not box.engines["h"].again


def test_a_load_by_hand_that_dies_of_memory_is_still_asked_for_by_hand() -> None:
    box = make_box(model("h", on_host=True))
    box.load("h", 0)
    assert did(box.saw("h", Fact.EXITED, 1, OOM)) == [("h", SPAWN)]
    assert box.saw("h", Fact.EXITED, 2, OOM) == []
    assert failure(box, "h") is not None


def test_what_is_tried_again_and_wanted_by_nobody_is_over() -> None:
    box = make_box(model("a"))
    box.heard("r", says(1, a=1), 0)
    box.saw("a", Fact.EXITED, 1, OOM)
    assert set(box.switches) == {"a"}
    box.heard("r", says(2), 2)
    assert (box.switches, box.engines["a"].again) == ({}, False)


def test_a_load_that_dies_of_something_else_is_not_tried_again_for_the_same_waiters() -> None:
    box = make_box(model("h", on_host=True))
    box.heard("r", says(1, h=1), 0)
    assert box.saw("h", Fact.EXITED, 1, CRASH) == []
    assert failure(box, "h") is not None


def test_more_victims_than_were_thought_of_are_part_of_the_same_story() -> None:
    box = make_box(model("a"), model("b"))
    assert box.switches.begin("a", ("b",), 0)
    assert not box.switches.begin("a", ("b",), 1)
    assert box.switches.begin("a", ("c",), 2)
    assert (box.switches["a"].from_, box.switches["a"].began) == (("b", "c"), 0)
