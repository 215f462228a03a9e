from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest

from shared.demand import Demand, ModelDemand
from shared.status import BUSIEST_FIRST, LEAVING, LoadError, Phase, PlanEntry, Status, Step
from sidecar.box import Box
from sidecar.engine import Model
from sidecar.failure import Exit
from sidecar.machine import Fact, Limits
from sidecar.memory import HOST, Gpu, Host, Memory, Need
from sidecar.plan import Rules
from sidecar.report import report

LIMITS = Limits(start=100, stall=50, drain=60, stop=10)
WALL = 1_000_000.0
SEEN = Memory(
    Host(total=80, used=30, free=50),
    (Gpu(0, "GPU-0", "H200", total=24, used=13, utilisation=7),),
)
CRASH = Exit("crashed", "exited with code 1", ("boom",), "boom")
BUSY_PHASES = [phase for phase in BUSIEST_FIRST if phase is not Phase.IDLE]


def model(
    id: str, size: int | None = 10, *, on_host: bool = False, file: int | None = None
) -> Model:
    need = Need(size, "unknown" if size is None else "declared", on_host)
    return Model(id, 2, need, LIMITS, size=file)


def make_box(*models: Model, patience: float = 120.0) -> Box:
    chosen = models or (model("a"), model("b"))
    capacity = {"gpu0": 24, HOST: 60}
    return Box("box1", "9f2c", {m.id: m for m in chosen}, capacity, Rules(patience), now=0.0)


def wanted(box: Box, now: float, **waiting: int) -> None:
    models = {m: ModelDemand({0: n}) for m, n in waiting.items()}
    box.heard("r", Demand(1, int(now * 10), 60.0, models), now)


def bring(box: Box, id: str, phase: Phase, now: float = 0.0) -> None:
    """Take an engine of an idle box to this phase."""
    box.load(id, now)
    if phase is not Phase.STARTING:
        box.saw(id, Fact.HEALTHY, now)
    if phase is Phase.SWITCHING:
        box.admit(id, None, now)
    if phase in LEAVING:
        box.unload(id, now)
    assert box.engines[id].machine.phase is phase


def shown(box: Box, now: float, seen: Memory = SEEN) -> Status:
    """The report, as a router reads it."""
    status = report(box, seen, now, WALL)
    assert Status.from_json(status.to_json()) == status
    return status


def test_an_idle_box_says_who_it_is_and_what_it_has() -> None:
    box = make_box()
    box.seq = 41
    status = shown(box, 5)
    assert (status.v, status.box, status.boot, status.seq) == (1, "box1", "9f2c", 41)
    assert (status.at, status.phase, status.step, status.model) == (WALL, Phase.IDLE, None, None)
    assert [m.id for m in status.models] == ["a", "b"]
    assert (status.switches, status.plan, status.problems) == ((), (), ())


@pytest.mark.parametrize(("first", "second"), [*itertools.permutations(BUSY_PHASES, 2)])
def test_a_box_shows_its_busiest_phase(first: Phase, second: Phase) -> None:
    box = make_box()
    bring(box, "a", first)
    bring(box, "b", second)
    status = shown(box, 1)
    busier = min(first, second, key=BUSIEST_FIRST.index)
    assert (status.phase, status.model) == (busier, "a" if busier is first else "b")
    assert status.step == box.engines[status.model or ""].machine.step


def test_of_two_engines_in_one_phase_the_last_used_is_shown() -> None:
    box = make_box()
    bring(box, "a", Phase.READY, now=2)
    bring(box, "b", Phase.READY, now=1)
    assert shown(box, 3).model == "a"


# Models.


def test_a_model_that_serves_is_counted() -> None:
    box = make_box(model("a"), model("h", 7, on_host=True))
    bring(box, "a", Phase.READY)
    bring(box, "h", Phase.READY)
    box.admit("a", None, 1)
    wanted(box, 1, a=3)
    a, h = shown(box, 2).models
    assert (a.phase, a.in_flight, a.slots, a.waiting, a.routers) == (Phase.READY, 1, 2, 3, 1)
    assert (a.memory_bytes, a.memory_source, a.gpus, h.gpus) == (10, "declared", (0,), ())
    assert (a.pinned, a.error, a.progress, a.eta_s) == (False, None, None, None)
    assert (h.waiting, h.routers) == (0, 0)


def test_an_operator_is_nobody_who_waits() -> None:
    box = make_box()
    box.load("a", 0)
    wanted(box, 1, a=2)
    assert shown(box, 1).models[0].waiting == 2


def test_a_load_names_the_source_of_its_figures_and_without_one_there_are_none() -> None:
    box = make_box(model("a", None), model("b", file=4_000_000_000))
    a, b = shown(box, 0).models
    assert (a.load_s, a.load_source, a.memory_bytes, a.memory_source) == (
        (None, "unknown", None, "unknown")
    )
    assert (b.load_s, b.load_source, b.eta_s) == (10.0, "size", None)
    bring(box, "b", Phase.STARTING, now=1)
    _, b = shown(box, 2).models
    assert (b.eta_s, b.eta_source, b.progress) == (9.0, "size", None)
    box.progressed("b", 0.25, 2)
    _, b = shown(box, 2.5).models
    assert (b.eta_s, b.eta_source) == (2.5, "engine")
    assert (b.progress, b.progress_source) == (0.25, "engine")
    _, b = shown(box, 5.1).models  # it takes longer than expected: nobody knows
    assert (b.eta_s, b.eta_source) == (None, None)
    box.saw("b", Fact.HEALTHY, 3)
    _, b = shown(box, 3).models
    assert (b.load_s, b.load_source, b.eta_s, b.progress) == (2.0, "history", None, None)


def test_a_load_of_unknown_length_has_no_end() -> None:
    box = make_box()
    bring(box, "a", Phase.STARTING)
    assert shown(box, 1).models[0].eta_s is None


def test_a_failed_load_says_why_when_and_when_it_is_tried_again() -> None:
    box = make_box()
    for n in (1, 2, 3):
        wanted(box, n, a=1)
        box.saw("a", Fact.EXITED, n + 0.5, CRASH)
    error = shown(box, 5.5).models[0].error
    message = "exited with code 1: boom"
    assert error == LoadError("load_failed", "crashed", message, WALL - 2, 8.0, ("boom",))
    error = shown(box, 13.5).models[0].error
    assert error is not None
    assert error.retry_in_s is None


def test_a_model_that_can_never_fit_says_so_and_is_a_problem_of_the_box() -> None:
    box = make_box(model("a"), model("big", 25 * 2**30))
    status = shown(box, 1, Memory(SEEN.host, SEEN.gpus, problem="NVML: driver not loaded"))
    error = status.models[1].error
    said = "big needs 25.0 GiB, the largest GPU has 0.0 GiB"
    assert error == LoadError("does_not_fit", "vram_oom", said, at=0.0)
    assert status.problems == (said, "NVML: driver not loaded")


# A switch: one story, told by those who must leave until its model starts.


def test_a_switch_is_in_the_phase_of_its_victims_until_its_model_starts() -> None:
    box = make_box(model("a", 20), model("b", 20, file=1_200_000_000))
    bring(box, "a", Phase.READY)
    box.admit("a", None, 0)
    wanted(box, 10, b=1)
    box.tick(30)
    [switch] = shown(box, 31).switches
    assert (switch.to, switch.from_, switch.id) == ("b", ("a",), "s-9f2c-2")
    assert (switch.phase, switch.step) == (Phase.SWITCHING, Step.DRAINING)
    assert (switch.elapsed_s, switch.progress, switch.eta_s) == (1.0, None, None)
    box.release("a", 0, 32)
    [switch] = shown(box, 32).switches
    assert (switch.phase, switch.step) == (Phase.STOPPING, Step.STOPPING)
    assert (switch.eta_s, switch.eta_source) == (3.0, "size")
    box.saw("a", Fact.EXITED, 33)
    [switch] = shown(box, 33).switches
    assert (switch.phase, switch.step) == (Phase.STARTING, Step.STARTING)
    box.saw("b", Fact.ALIVE, 34)
    box.progressed("b", 0.5, 34)
    [switch] = shown(box, 34).switches
    assert (switch.step, switch.progress, switch.progress_source) == (
        (Step.AWAITING_READINESS, 0.5, "engine")
    )
    assert (switch.elapsed_s, switch.from_) == (4.0, ("a",))
    box.saw("b", Fact.HEALTHY, 36)
    assert shown(box, 36).switches == ()


def test_of_several_victims_the_one_that_drains_is_shown() -> None:
    box = make_box(model("a"), model("b"), model("c", 24))
    bring(box, "a", Phase.READY)
    bring(box, "b", Phase.READY)
    box.admit("b", None, 0)
    wanted(box, 10, c=1)
    box.tick(40)
    [switch] = shown(box, 40).switches
    assert (set(switch.from_), switch.phase) == ({"a", "b"}, Phase.SWITCHING)


def test_a_switch_without_victims_of_its_own_is_told_by_those_who_leave_anyway() -> None:
    box = make_box(model("a", 20), model("b", 20))
    bring(box, "a", Phase.STOPPING)
    wanted(box, 1, b=1)
    [switch] = shown(box, 2).switches
    assert (switch.from_, switch.phase) == ((), Phase.STOPPING)


def test_a_switch_whose_room_strangers_took_is_none_any_more_and_its_model_waits() -> None:
    box = make_box(model("a", 20), model("b", 20))
    bring(box, "a", Phase.READY)
    box.looked(SEEN, {}, 0)
    wanted(box, 1, b=1)
    box.saw("a", Fact.EXITED, 2)
    box.looked(replace(SEEN, gpus=(replace(SEEN.gpus[0], used=9),)), {}, 3)
    status = shown(box, 4)
    assert (status.switches, status.models[1].step) == ((), Step.AWAITING_VRAM)


def test_json_spells_from_as_from() -> None:
    box = make_box(model("a", 20), model("b", 20))
    bring(box, "a", Phase.READY)
    wanted(box, 1, b=1)
    [switch] = json.loads(shown(box, 2).to_json())["switches"]
    assert switch["from"] == ["a"]
    assert "from_" not in switch


# Memory and plan.


def test_each_gpu_and_the_host_has_a_row() -> None:
    box = make_box(model("a"), model("h", 7, on_host=True))
    bring(box, "a", Phase.READY)
    bring(box, "h", Phase.READY)
    box.looked(SEEN, {}, 1)
    card, host = shown(box, 1).memory
    assert (card.kind, card.index, card.uuid, card.name) == ("gpu", 0, "GPU-0", "H200")
    assert (card.total, card.used, card.free, card.utilisation) == (24, 13, 11, 7)
    assert (card.reserved, card.strangers) == (10, 3)
    assert (host.kind, host.index, host.total, host.used, host.free) == ("host", None, 80, 30, 50)
    assert (host.reserved, host.strangers) == (7, 23)


def test_memory_that_is_booked_and_not_used_yet_is_no_strangers() -> None:
    box = make_box(model("h", 50, on_host=True))
    bring(box, "h", Phase.STARTING)
    _, host = shown(box, 1).memory
    assert (host.reserved, host.strangers) == (50, 0)


def test_the_plan_says_what_is_done_and_what_waits_with_the_reason_for_each() -> None:
    box = make_box(model("a", 12), model("b", 12), model("c", 12), model("d", 24))
    bring(box, "a", Phase.READY)
    box.admit("a", None, 0)
    bring(box, "b", Phase.STARTING)
    wanted(box, 20, c=2, d=1)
    box.tick(30)
    assert shown(box, 30).plan == (
        PlanEntry("drain", "a", "c: 2 waiting, oldest 10.0 s; a has had its visit"),
        PlanEntry("start", "b", "asked for by hand"),
        PlanEntry("start", "c", "2 waiting, oldest 10.0 s; a has had its visit"),
        PlanEntry(
            "wait", "d", "1 waiting, oldest 10.0 s; nothing that may leave would make enough room"
        ),
    )


def test_what_cannot_be_started_is_a_problem_of_the_box() -> None:
    box = make_box()
    box.found({"a": Exit("file_missing", "there is no file /a.gguf")}, 0)
    assert shown(box, 1).problems == ("a: there is no file /a.gguf",)
