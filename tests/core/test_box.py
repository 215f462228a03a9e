from __future__ import annotations

from collections.abc import Iterable

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import Phase as Examples
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.demand import Demand, ModelDemand
from shared.status import Phase, Status, Step
from sidecar.box import Box
from sidecar.demand import BY_HAND
from sidecar.engine import Do, Model, Unsettled
from sidecar.estimate import Measured
from sidecar.failure import Exit
from sidecar.machine import Fact, Limits, Spawn, Stop
from sidecar.memory import HOST, Bytes, Gpu, Host, Memory, Need, add, fits
from sidecar.plan import Rules
from sidecar.report import report

LIMITS = Limits(start=100, stall=20, drain=60, stop=10)
CRASH = Exit("crashed", "exited with code 1", ("boom",), "boom")
OOM = Exit("vram_oom", "exited with code 1")
GPU = {"gpu0": 10, HOST: 8}
SPAWN, STOP = Spawn(), Stop()


def model(id: str, size: int | None = 8, *, slots: int = 2, pinned: bool = False) -> Model:
    need = Need(size, "unknown" if size is None else "declared", on_host=False)
    return Model(id, slots, need, LIMITS, pinned=pinned)


def make_box(*models: Model, capacity: Bytes = GPU, patience: float = 120.0) -> Box:
    chosen = models or (model("a"), model("b"))
    return Box("box1", "9f2c", {m.id: m for m in chosen}, capacity, Rules(patience), now=0.0)


def says(seq: int, **models: int | ModelDemand) -> Demand:
    wanted = {m: d if isinstance(d, ModelDemand) else waits(d) for m, d in models.items()}
    return Demand(1, seq, 3.0, wanted)


def waits(count: int = 1, oldest: float = 0.0, sent: int = 0) -> ModelDemand:
    return ModelDemand({0: count}, oldest, sent)


def used(*gpus: int) -> Memory:
    """What a look shows: each GPU's use, in the order of their numbers."""
    return Memory(Host(8, 0, 8), tuple(Gpu(n, f"GPU-{n}", "", 0, u, 0) for n, u in enumerate(gpus)))


def did(effects: Iterable[Do]) -> list[tuple[str, Spawn | Stop]]:
    return [(do.model, do.effect) for do in effects]


def loaded(box: Box, *names: str, now: float = 0.0) -> Box:
    """The box with these models ready, and nobody who wants any."""
    for name in names:
        assert did(box.load(name, now)) == [(name, SPAWN)]
        box.saw(name, Fact.HEALTHY, now)
    return box


def phase(box: Box, name: str) -> Phase:
    return box.engines[name].machine.phase


def test_what_a_fact_has_caused_is_done_even_if_nothing_further_can_be_decided() -> None:
    box = loaded(make_box(), "a")
    box.demands.by_hand["no model of this box"] = 1  # which nobody ever asks for
    with pytest.raises(Unsettled) as failed:
        box.unload("a", 1)
    assert did(failed.value.effects) == [("a", STOP)]
    assert isinstance(failed.value.__cause__, KeyError)
    del box.demands.by_hand["no model of this box"]
    assert did(box.tick(11)) == [("a", Stop(force=True))]


# The whole story of a switch.


def test_a_switch_is_one_story_from_the_first_drain_to_readiness() -> None:
    box = make_box()
    [start] = box.heard("r", says(1, a=waits()), 0)
    assert start == Do("a", SPAWN, {"gpu0": 8})
    assert box.saw("a", Fact.ALIVE, 1) == box.saw("a", Fact.HEALTHY, 2) == []
    assert box.switches == {}
    assert box.admit("a", "r", 2) is None
    # b waits; a has c = 5 s, an unknown load's, and so a visit until 3 + 2 c.
    assert box.heard("r", says(2, a=waits(0, sent=1), b=waits(1)), 3) == []
    assert box.deadline(3) == 6
    for at in (6, 9, 12):
        assert box.tick(at - 0.1) == []
        assert box.heard("r", says(at, a=waits(0, sent=1), b=waits(1, oldest=at - 3)), at) == []
    assert (box.deadline(12), [w.model for w in box.waits]) == (13, ["b"])
    assert box.tick(13) == []
    assert (phase(box, "a"), box.admit("a", "r", 13)) == (Phase.SWITCHING, "draining")
    [story] = box.switches.values()
    assert (story.to, story.from_, story.began) == ("b", ("a",), 13)
    assert did(box.release("a", 2, 14)) == [("a", STOP)]
    assert box.admit("a", "r", 14) == "not_ready"
    assert did(box.saw("a", Fact.EXITED, 14.5)) == [("b", SPAWN)]
    assert box.switches["b"] == story
    assert box.saw("b", Fact.HEALTHY, 16.5) == []
    assert box.switches == {}
    history_a, history_b = box.engines["a"].history, box.engines["b"].history
    assert (history_a.load, history_a.service, history_a.stop) == (2, 12, 0.5)
    assert history_b.load == 2


def test_what_cannot_be_started_costs_no_other_model_its_place() -> None:
    box = loaded(make_box(), "a")
    box.found({"b": Exit("file_missing", "there is no file")}, 5)
    assert box.heard("r", says(1, b=1), 10) == []
    assert phase(box, "a") is Phase.READY
    failure = box.engines["b"].machine.failure
    assert failure is not None
    assert (failure.code, failure.cause, failure.at) == ("load_failed", "file_missing", 10)
    assert "b" not in box.inventory.wants()  # who waited is answered
    assert box.load("b", 11) == []
    assert box.demands.by_hand == {}


def test_an_obstacle_that_is_gone_is_forgiven_and_one_of_a_running_engine_is_no_matter() -> None:
    box = make_box()
    box.found({"b": Exit("file_missing", "there is no file")}, 0)
    for at in range(1, 5):
        box.heard("r", says(at, b=1), at)
    assert box.engines["b"].machine.retry_at > 5
    assert box.found({}, 5) == []
    assert did(box.heard("r", says(9, b=1), 6)) == [("b", SPAWN)]
    box.found({"b": Exit("file_missing", "there is no file")}, 7)
    box.heard("r", says(10, b=1), 7)
    assert phase(box, "b") is Phase.STARTING


def test_stories_have_names_of_their_own() -> None:
    box = make_box(model("a", 5), model("b", 5))
    box.heard("r", says(1, a=1, b=1), 0)
    assert [story.id for story in box.switches.values()] == ["s-9f2c-1", "s-9f2c-2"]


def test_a_switch_that_nobody_waits_for_any_more_is_called_off() -> None:
    box = loaded(make_box())
    box = loaded(box, "a")
    box.admit("a", None, 0)
    box.heard("r", says(1, b=1), 1)
    box.heard("r", says(2, b=waits(1, oldest=19)), 20)
    assert (phase(box, "a"), set(box.switches)) == (Phase.SWITCHING, {"b"})
    assert box.heard("r", says(3), 21) == []
    assert (phase(box, "a"), box.switches, box.inventory.claims) == (Phase.READY, {}, ())
    assert box.engines["a"].because == "nobody waits for b any more"
    assert box.admit("a", None, 21) is None


def test_a_silent_routers_demand_is_forgotten_with_all_that_it_asked_for() -> None:
    box = make_box(model("a", pinned=True), model("b"))
    loaded(box, "a")
    box.heard("r", says(1, b=1), 1)
    assert [w.model for w in box.waits] == ["b"]
    assert box.deadline(1) == 4
    box.tick(4)
    assert (box.waits, box.deadline(4)) == ((), float("inf"))


# Requests on the wire.


def test_demand_that_overtakes_its_requests_does_not_stop_a_fresh_engine() -> None:
    box = make_box()
    box.heard("r", says(1, a=1), 0)
    box.heard("s", says(1, b=1), 0.5)
    box.saw("a", Fact.HEALTHY, 1)
    assert box.heard("r", says(2, a=waits(0, sent=1)), 1.1) == []
    assert phase(box, "a") is Phase.READY
    assert box.deadline(1.1) == 1.1 + 0.25
    assert box.admit("a", "r", 1.2) is None
    assert box.tick(1.35) == []
    assert phase(box, "a") is Phase.READY


def test_a_request_that_never_arrives_holds_an_engine_for_250_ms() -> None:
    box = make_box()
    box.heard("r", says(1, a=1), 0)
    box.heard("s", says(1, b=1), 0.5)
    box.saw("a", Fact.HEALTHY, 1)
    box.heard("r", says(2, a=waits(0, sent=1)), 1.1)
    assert did(box.tick(1.35)) == [("a", STOP)]


# Failures.


def test_a_failed_load_is_not_tried_again_for_the_same_waiters() -> None:
    box = make_box()
    box.heard("r", says(1, a=1), 0)
    assert box.saw("a", Fact.EXITED, 1, CRASH) == []
    assert (box.switches, box.inventory.wants()) == ({}, {})
    assert box.heard("r", says(2, a=waits(1, oldest=2)), 2) == []
    assert did(box.heard("r", says(3, a=waits(1, oldest=0.5)), 2)) == [("a", SPAWN)]


def test_an_engine_that_died_while_it_served_starts_again_for_those_who_wait() -> None:
    box = loaded(make_box(), "a")
    assert box.admit("a", None, 1) is None
    box.heard("r", says(1, a=1), 1)
    assert did(box.saw("a", Fact.EXITED, 2, CRASH)) == [("a", SPAWN)]
    assert box.engines["a"].history.stop is None  # nobody stopped it


def test_a_report_that_moves_is_a_sign_of_life_and_the_same_again_is_none() -> None:
    box = make_box()
    box.heard("r", says(9, a=1), 0)
    box.progressed("a", 0.5, 2)
    deadline = box.engines["a"].machine.deadline
    box.progressed("a", 0.5, 4)
    assert box.engines["a"].machine.deadline == deadline
    box.progressed("a", 0.6, 5)
    assert box.engines["a"].machine.deadline == deadline + 3


def test_a_report_that_comes_after_the_load_is_none() -> None:
    box = quiet(loaded(make_box(), "a"))
    box.progressed("a", 0.5, 2)
    assert not box.changed


def test_what_was_measured_is_worth_keeping_and_can_be_recalled() -> None:
    box = make_box()
    assert not box.learned
    box.heard("r", says(1, a=1), 0)
    box.progressed("a", 1.0, 3)
    assert not box.learned
    box.saw("a", Fact.HEALTHY, 4)
    assert box.learned
    box.learned = False
    box.unload("a", 5)
    box.saw("a", Fact.EXITED, 5.5)
    assert box.learned
    measured = box.engines["a"].history.measured
    assert measured == Measured(loads_s=(4,), shares=(0.75,), stops_s=(0.5,))
    again = make_box()
    again.recall({"a": measured})
    assert again.engines["a"].history.load_estimate() == (4, "history")
    assert again.engines["b"].history.measured == Measured()


def test_a_load_that_fails_teaches_nothing() -> None:
    box = make_box()
    box.heard("r", says(1, a=1), 0)
    box.saw("a", Fact.EXITED, 1, CRASH)
    assert (box.learned, box.engines["a"].load) == (False, None)


def test_a_load_that_hangs_is_stopped_and_then_killed() -> None:
    box = make_box()
    box.heard("r", says(1, a=1), 0)
    assert box.progressed("a", 0.5, 2.5) == []
    box.sign_of_life("a", 2.9)
    box.tick(3)
    assert box.deadline(3) == 22.9
    assert box.overdue(22.8) == []
    assert box.overdue(22.9) == ["a"]
    assert did(box.tick(22.9, {"a": ("still loading",)})) == [("a", STOP)]
    failure = box.engines["a"].machine.failure
    assert failure is not None
    assert (failure.cause, failure.log_tail) == ("stalled", ("still loading",))
    assert did(box.tick(32.9)) == [("a", Stop(force=True))]
    box.saw("a", Fact.EXITED, 33.9, CRASH)
    assert box.engines["a"].booking == {}
    assert box.engines["a"].history.stop == 33.9 - 22.9
    failure = box.engines["a"].machine.failure
    assert failure is not None
    assert failure.cause == "stalled"


def test_after_the_third_failed_load_a_model_waits_for_its_next_try() -> None:
    box = make_box()
    for n in (1, 2, 3):
        assert did(box.heard("r", says(n, a=1), n)) == [("a", SPAWN)]
        box.saw("a", Fact.EXITED, n, CRASH)
    assert box.heard("r", says(4, a=1), 3.5) == []
    assert [w.model for w in box.waits] == ["a"]
    assert did(box.load("a", 4)) == [("a", SPAWN)]  # by hand it need not wait


# Memory.


def test_memory_of_strangers_is_respected() -> None:
    box = make_box()
    assert box.looked(used(5), {}, 0) == []
    assert box.heard("r", says(1, a=1), 1) == []
    assert [w.model for w in box.waits] == ["a"]
    assert did(box.looked(used(2), {}, 2)) == [("a", SPAWN)]


def test_a_model_without_a_known_need_takes_the_box_but_for_what_strangers_took() -> None:
    box = make_box(model("a"), model("b", None))
    loaded(box, "a")
    box.looked(used(9), {}, 1)
    assert did(box.heard("r", says(1, b=1), 1)) == [("a", STOP)]
    assert box.saw("a", Fact.EXITED, 2) == []
    [start] = box.looked(used(2), {}, 2)  # strangers take more than when its room was promised
    assert start == Do("b", SPAWN, {"gpu0": 8, HOST: 8})


def test_a_model_that_can_never_fit_is_told_so_and_never_started() -> None:
    box = make_box(model("a"), model("big", 11 * 2**30))
    assert box.heard("r", says(1, big=1), 0) == []
    assert (box.inventory.wants(), box.waits) == ({}, ())
    assert box.fit_problem("a") is None
    assert box.fit_problem("big") == "big needs 11.0 GiB, the largest GPU has 0.0 GiB"


# GPUs that come and go.

LOST = "GPU 0: lost"


def test_a_gpu_that_comes_later_can_be_used() -> None:
    box = make_box(capacity={HOST: 1})
    assert box.heard("r", says(1, a=1), 0) == []
    assert box.fit_problem("a") == "a needs 0.0 GiB, the limit for engines is 0.0 GiB"
    box.supplied(GPU)
    assert box.news
    assert did(box.looked(used(0), {}, 1)) == [("a", SPAWN)]
    assert box.engines["a"].booking == {"gpu0": 8}


def test_nothing_starts_on_a_lost_gpu_until_it_is_back_and_who_wants_to_is_told_why() -> None:
    box = make_box()
    box.supplied({HOST: 8}, trouble=LOST)
    assert box.heard("r", says(1, a=1), 0) == []
    assert (
        box.fit_problem("a")
        == "a needs a GPU, this box has none (GPU 0: lost; `gpus: none` would run it on the host)"
    )
    assert box.inventory.wants() == {}
    box.supplied(GPU)
    assert did(box.looked(used(), {}, 1)) == [("a", SPAWN)]


def test_a_model_goes_to_the_host_only_once_the_drivers_have_said_that_there_is_no_gpu() -> None:
    box = make_box(capacity={HOST: 8})
    box.supplied({HOST: 8}, trouble=LOST)
    assert box.heard("r", says(1, a=1), 0) == []
    assert (
        box.fit_problem("a")
        == "a needs a GPU, this box has none (GPU 0: lost; `gpus: none` would run it on the host)"
    )
    box.supplied({HOST: 8})
    assert did(box.looked(used(), {}, 1)) == [("a", SPAWN)]


def test_an_engine_on_a_lost_gpu_is_left_alone_as_long_as_it_lives() -> None:
    box = loaded(make_box(), "a")
    box.supplied({HOST: 8}, trouble=LOST)
    assert (box.fit_problem("a"), bool(box.fit_problem("b"))) == (None, True)
    assert did(box.heard("r", says(1, a=1, b=1), 1)) == []
    assert box.inventory.wants().keys() == {"a"}
    assert box.admit("a", "r", 1) is None
    box.release("a", 1, 2)
    box.saw("a", Fact.EXITED, 2, Exit("crashed", "its GPU is lost"))
    assert (
        box.fit_problem("a")
        == "a needs a GPU, this box has none (GPU 0: lost; `gpus: none` would run it on the host)"
    )


@pytest.mark.parametrize("engine", ["waits", "ends"])
def test_a_load_by_hand_does_not_come_hours_later_when_a_lost_gpu_is_back(engine: str) -> None:
    box = loaded(make_box(), "a")
    if engine == "ends":
        box.supplied({HOST: 8}, trouble=LOST)
        box.unload("a", 1)
        box.load("a", 2)
        box.saw("a", Fact.EXITED, 3)
    else:
        box.load("b", 1)
        box.supplied({HOST: 8}, trouble=LOST)
        box.saw("a", Fact.EXITED, 3)
    assert box.demands.by_hand == {}
    box.supplied(GPU)
    assert box.looked(used(), {}, 9000) == []


def test_room_that_was_promised_on_a_gpu_is_not_promised_any_more_when_it_is_lost() -> None:
    box = loaded(make_box(capacity={"gpu0": 10, "gpu1": 6, HOST: 8}), "a")
    assert did(box.heard("r", says(1, b=1), 1)) == [("a", STOP)]
    assert [claim.booking for claim in box.inventory.claims] == [{"gpu0": 8}]
    box.supplied({"gpu1": 10, HOST: 8}, trouble=LOST)
    assert box.inventory.claims == ()
    assert did(box.looked(used(), {}, 2)) == [("b", SPAWN)]
    assert box.engines["b"].booking == {"gpu1": 8}


def test_a_look_that_shows_nothing_new_is_no_news() -> None:
    box = make_box()
    box.supplied({HOST: 8}, trouble=LOST)
    box.news = False
    box.supplied({HOST: 8}, trouble=LOST)
    assert not box.news


def test_a_model_finds_its_gpu_by_its_uuid() -> None:
    need = Need(8, "declared", False, ("GPU-b",))
    box = make_box(Model("a", 4, need, LIMITS), capacity={"gpu0": 10, "gpu1": 10, HOST: 8})
    assert box.fit_problem("a") == "a needs GPU-b, which cannot be seen"
    box.supplied(box.inventory.capacity, {"GPU-a": "gpu0", "GPU-b": "gpu1"})
    assert did(box.load("a", 0)) == [("a", SPAWN)]
    assert box.engines["a"].booking == {"gpu1": 8}


def test_a_model_of_unknown_need_takes_all_of_its_gpu_but_for_what_strangers_took() -> None:
    unknown = Model("a", 4, Need(None, "unknown", False, (1,)), LIMITS)
    capacity = {"gpu0": 10, "gpu1": 10, HOST: 8}
    box = loaded(make_box(unknown, model("b"), model("c"), capacity=capacity), "b", "c")
    box.looked(used(8, 9), {}, 1)
    assert did(box.heard("r", says(1, a=1), 1)) == [("c", STOP)]
    assert box.saw("c", Fact.EXITED, 2) == []
    [start] = box.looked(used(8, 2), {}, 2)  # more than when its room was promised
    assert start == Do("a", SPAWN, {"gpu1": 8})


# By hand.


def test_a_load_by_hand_counts_as_waiting_until_it_is_ready() -> None:
    box = make_box()
    assert did(box.load("a", 0)) == [("a", SPAWN)]
    assert box.inventory.wants()["a"].by_hand
    box.saw("a", Fact.HEALTHY, 1)
    assert box.inventory.wants() == {}
    assert box.load("a", 2) == []
    assert box.inventory.wants() == {}


def test_a_load_by_hand_comes_before_all_routers_want() -> None:
    box = make_box(model("a", pinned=True), model("b"), model("c"))
    loaded(box, "a")
    box.heard("r", says(1, b=9, c=waits(1, oldest=2)), 1)
    box.load("c", 2)
    assert [w.model for w in box.waits] == ["c", "b"]
    assert (box.inventory.wants()["c"].waiting, box.inventory.wants()["c"].oldest) == (
        {0: 1, BY_HAND: 1},
        -1,
    )


def test_a_load_by_hand_ends_with_its_failure() -> None:
    box = make_box()
    box.load("a", 0)
    assert box.saw("a", Fact.EXITED, 1, CRASH) == []
    assert box.inventory.wants() == {}


def test_a_load_by_hand_is_kept_while_the_last_failed_load_still_stops() -> None:
    box = make_box()
    box.load("a", 0)
    assert did(box.tick(20)) == [("a", STOP)]  # stalled
    assert box.load("a", 21) == []
    assert did(box.saw("a", Fact.EXITED, 22)) == [("a", SPAWN)]


def test_unload_by_hand_drains_and_stops() -> None:
    box = loaded(make_box(), "a")
    box.admit("a", None, 1)
    assert box.unload("a", 2) == []
    assert (phase(box, "a"), box.engines["a"].because) == (Phase.SWITCHING, "unloaded by hand")
    assert did(box.release("a", 1, 3)) == [("a", STOP)]
    assert box.saw("a", Fact.EXITED, 4) == []
    assert box.unload("a", 5) == []


def test_an_unloaded_model_with_requests_waiting_starts_again_by_itself() -> None:
    box = loaded(make_box(), "a")
    box.heard("r", says(1, a=1), 1)
    assert did(box.unload("a", 1)) == [("a", STOP)]
    assert did(box.saw("a", Fact.EXITED, 2)) == [("a", SPAWN)]


def test_an_engine_that_is_unloaded_while_it_makes_room_does_not_go_back() -> None:
    box = loaded(make_box(), "a")
    box.admit("a", None, 0)
    box.heard("r", says(1, b=waits(1, oldest=19)), 20)
    box.unload("a", 21)
    box.heard("r", says(2), 22)
    assert (phase(box, "a"), box.inventory.claims) == (Phase.SWITCHING, ())
    assert box.engines["a"].because == "unloaded by hand"


def test_unload_takes_back_a_load_by_hand() -> None:
    box = make_box(model("a", pinned=True), model("b"))
    loaded(box, "a")
    box.load("b", 1)
    assert [w.model for w in box.waits] == ["b"]
    box.unload("b", 2)
    assert (box.waits, box.inventory.wants()) == ((), {})


def test_a_switch_by_hand_leaves_this_model_and_the_pinned_ones() -> None:
    box = make_box(model("a", 3), model("b", 3), model("p", 3, pinned=True), model("c", 3))
    loaded(box, "a", "b", "p")
    effects = box.switch("c", 1)
    assert did(effects) == [("a", STOP), ("b", STOP)]
    assert box.engines["a"].because == "switched to c by hand"
    [story] = box.switches.values()
    assert (story.to, story.from_) == ("c", ("a", "b"))
    assert did(box.saw("a", Fact.EXITED, 2)) == [("c", SPAWN)]
    assert phase(box, "p") is Phase.READY


def test_a_switch_by_hand_to_a_model_that_is_here_only_sends_the_others_away() -> None:
    box = loaded(make_box(model("a", 3), model("b", 3)), "a", "b")
    assert did(box.switch("a", 1)) == [("b", STOP)]
    assert (phase(box, "a"), box.switches) == (Phase.READY, {})


def test_a_switch_by_hand_is_the_newest_word_of_the_operator() -> None:
    box = make_box(model("a"), model("b"), model("c"))
    loaded(box, "a")
    box.admit("a", None, 0)
    box.load("b", 1)
    box.switch("c", 2)
    assert set(box.inventory.wants()) == {"c"}
    assert [claim.model for claim in box.inventory.claims] == ["c"]


# The end.


def test_a_box_that_closes_admits_nobody_and_lets_what_runs_come_to_its_end() -> None:
    box = make_box(model("a", 3), model("b", 3), model("c", 3))
    loaded(box, "a", "b")
    box.admit("a", None, 1)
    assert did(box.close(2)) == [("b", STOP)]
    assert box.news
    assert (box.admit("a", None, 3), box.admit("c", None, 3)) == ("draining", "not_ready")
    assert box.heard("r", says(1, c=1), 3) == []
    assert box.saw("b", Fact.EXITED, 4) == []
    assert did(box.release("a", 1, 5)) == [("a", STOP)]
    assert box.saw("a", Fact.EXITED, 6) == []
    assert {e.machine.phase for e in box.engines.values()} == {Phase.IDLE}


def test_a_box_that_closes_plans_nothing_any_more() -> None:
    box = loaded(make_box(model("a"), model("b"), model("p", pinned=True)), "a")
    box.admit("a", None, 1)
    box.heard("r", says(1, b=waits(1, oldest=60), p=1), 60)
    assert (box.inventory.claims != (), box.waits != (), box.switches != {}) == (True, True, True)
    box.close(61)
    assert (box.inventory.claims, box.waits, box.switches) == ((), (), {})
    assert box.deadline(61) == 63  # when the router is forgotten


def test_nobody_switches_a_box_that_closes() -> None:
    box = loaded(make_box(), "a")
    box.admit("a", None, 1)
    box.close(2)
    assert (box.switch("b", 3), box.switches) == ([], {})


def test_a_ready_engine_that_closes_says_that_it_drains() -> None:
    box = loaded(make_box(), "a")
    box.closing = True
    assert box.admit("a", None, 1) == "draining"


# News: what watchers must hear at once, and changes that they may hear a little later.


def quiet(box: Box) -> Box:
    box.news = box.changed = False
    return box


def test_phases_steps_and_plans_are_news() -> None:
    box = quiet(make_box())
    box.heard("r", says(1, a=1), 0)
    assert box.news
    box = quiet(box)
    box.saw("a", Fact.ALIVE, 1)
    assert box.news
    box = quiet(box)
    box.saw("a", Fact.ALIVE, 2)
    assert not box.news
    box.saw("a", Fact.HEALTHY, 3)
    assert box.news
    box = quiet(box)
    box.admit("a", "r", 3)
    box.heard("r", says(2, b=1), 3)
    assert box.news


def test_a_slot_that_becomes_free_is_news_and_other_counts_are_changes() -> None:
    box = quiet(loaded(make_box(), "a"))
    for _ in range(2):
        assert box.admit("a", None, 1) is None
    assert box.admit("a", None, 1) == "busy"
    assert (box.news, box.changed) == (False, True)
    box.release("a", 1, 2)
    assert box.news
    box = quiet(box)
    box.release("a", 1, 3)
    assert (box.news, box.changed) == (False, True)


def test_the_end_of_a_drain_is_news() -> None:
    box = loaded(make_box(), "a")
    box.admit("a", None, 1)
    box.unload("a", 1)
    quiet(box).release("a", 1, 2)
    assert (box.news, phase(box, "a")) == (True, Phase.STOPPING)


def test_what_changes_nothing_is_no_change() -> None:
    box = make_box()
    box.heard("r", says(2, a=1), 0)
    box.progressed("a", 0.5, 1)
    quiet(box)
    box.heard("r", says(1, b=1), 1)
    box.progressed("a", 0.5, 1)
    box.tick(2)
    assert (box.news, box.changed) == (False, False)
    box.progressed("a", 0.6, 2)
    assert (box.news, box.changed) == (False, True)
    quiet(box).looked(used(), {}, 2)
    assert (box.news, box.changed) == (False, True)
    quiet(box).tick(3)  # the router is forgotten
    assert (box.news, box.changed) == (False, True)


# Nobody starves: a busy model lets go for each of the others in turn.


def test_everybody_who_waits_is_served_in_turn() -> None:
    box, now, served = make_box(model("a"), model("b"), model("c")), 0.0, []
    left = dict.fromkeys("abc", 0.0)
    for seq in range(1, 200):  # requests for all keep coming; those for a ready model are served
        now += 0.5
        for name in left:
            left[name] = now if phase(box, name) is Phase.READY else left[name]
        wanted = {name: waits(2, oldest=now - at) for name, at in left.items()}
        effects = [*box.tick(now), *box.heard("r", says(seq, **wanted), now)]
        while effects:
            do = effects.pop(0)
            served += [do.model] if do.effect == SPAWN else []
            fact = Fact.HEALTHY if do.effect == SPAWN else Fact.EXITED
            effects += box.saw(do.model, fact, now)
    assert "".join(served).startswith("abcabcabc")


# Whatever happens, in whatever order.

GIB = 2**30
TWO_GPUS = {"gpu0": 10 * GIB, "gpu1": 6 * GIB, HOST: 8 * GIB}
FLEET = (
    model("a", 6 * GIB),
    model("b", 6 * GIB, slots=1),
    model("c", 4 * GIB),
    model("p", 3 * GIB, pinned=True),
    model("whole", None),
    Model("guess", 1, Need(4 * GIB, "estimated", on_host=False), LIMITS),
    Model("host", 1, Need(5 * GIB, "declared", on_host=True), LIMITS, size=10**9),
)
NAMES = [m.id for m in FLEET]
ROUTERS = ["r", "s"]
MODELS, ROUTER = st.sampled_from(NAMES), st.sampled_from(ROUTERS)


class Life(RuleBasedStateMachine):
    """A box, routers that want things of it, and processes that do as told, some time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.box = make_box(*FLEET, capacity=TWO_GPUS, patience=30)
        self.processes: dict[str, str] = {}  # loading, ready or told to go
        self.requests: list[tuple[str, float]] = []
        self.draining: dict[str, float] = {}  # since when
        self.said: dict[str, tuple[Demand, float]] = {}
        self.seq = 0
        self.by_hand: set[str] = set()
        self.strangers: Bytes = {}
        self.pids: dict[str, int] = {}
        self.takes: dict[int, Bytes] = {}  # by pid, also for a while after its end
        self.are_told = True

    @initialize(are_told=st.booleans())
    def the_driver_may_tell_whose_memory_it_is(self, are_told: bool) -> None:
        self.are_told = are_told

    # Time, routers and operators.

    @rule(seconds=st.sampled_from([0.01, 0.25, 1, 3, 11, 40]))
    def time_passes(self, seconds: float) -> None:
        end, ticks = self.now + seconds, 0
        while (at := self.box.deadline(self.now)) <= end:
            self.now, ticks = max(self.now, at), ticks + 1
            assert ticks < 100, "a deadline that never passes"
            self.act(self.box.tick(self.now))
        self.now = end

    @rule(
        router=ROUTER,
        wanted=st.dictionaries(MODELS, st.tuples(st.integers(0, 3), st.sampled_from([0, 5, 50]))),
        sent=st.integers(0, 2),
        priority=st.sampled_from([0, 0, 1]),
    )
    def a_router_says(
        self, router: str, wanted: dict[str, tuple[int, float]], sent: int, priority: int
    ) -> None:
        self.seq += 1
        models = {
            m: ModelDemand({priority: n}, old, sent=self.seq * sent)
            for m, (n, old) in wanted.items()
        }
        self.said[router] = (Demand(1, self.seq, 3.0, models), self.now + 3.0)
        self.act(self.box.heard(router, self.said[router][0], self.now))

    @precondition(lambda self: self.said)
    @rule(router=ROUTER)
    def an_old_message_comes_again(self, router: str) -> None:
        demand, until = self.said.get(router, (None, 0.0))
        if demand is not None and self.now < until:
            wants = self.box.inventory.wants()
            self.act(self.box.heard(router, demand, self.now))
            assert self.box.inventory.wants() == wants

    @rule(name=MODELS)
    def an_operator_loads(self, name: str) -> None:
        if phase(self.box, name) is not Phase.READY:
            self.by_hand.add(name)
        self.act(self.box.load(name, self.now))

    @rule(name=MODELS)
    def an_operator_unloads(self, name: str) -> None:
        self.by_hand.discard(name)
        self.act(self.box.unload(name, self.now))

    @rule(name=MODELS)
    def an_operator_switches(self, name: str) -> None:
        self.by_hand = {m.id for m in FLEET if m.pinned and m.id in self.by_hand}
        if phase(self.box, name) is not Phase.READY:
            self.by_hand.add(name)
        self.act(self.box.switch(name, self.now))

    @rule(taken=st.dictionaries(st.sampled_from(["gpu0", "gpu1"]), st.integers(0, 5)))
    def strangers_come_and_go(self, taken: Bytes) -> None:
        self.strangers = {pool: gib * GIB for pool, gib in taken.items()}

    @precondition(lambda self: len(self.takes) > len(self.pids))
    @rule(n=st.integers(0, 9))
    def memory_comes_back(self, n: int) -> None:
        ended = [pid for pid in self.takes if pid not in self.pids.values()]
        del self.takes[ended[n % len(ended)]]

    @rule()
    def the_sidecar_looks(self) -> None:
        used = add([self.strangers, *self.takes.values()])
        gpus = tuple(Gpu(n, f"GPU-{n}", "", 0, used.get(f"gpu{n}", 0), None) for n in (0, 1))
        living = {pid: self.takes[pid] for pid in self.pids.values()} if self.are_told else {}
        self.act(self.box.looked(Memory(Host(8, 0, 8), gpus, uses=living), self.pids, self.now))
        settled = set(self.processes.values()) <= {"ready"} and self.takes.keys() == {
            *self.pids.values()
        }
        if self.are_told and settled:
            shown = {p: size for p, size in self.box.ledger.strangers.items() if size}
            assert shown == {p: size for p, size in self.strangers.items() if size}

    # Requests.

    @rule(name=MODELS, router=ROUTER)
    def a_request_comes(self, name: str, router: str) -> None:
        before = phase(self.box, name)
        refusal = self.box.admit(name, router, self.now)
        if refusal is None:
            assert (before, self.processes[name]) == (Phase.READY, "ready")
            self.requests.append((name, self.now))

    @precondition(lambda self: self.requests)
    @rule(n=st.integers(0, 9))
    def a_request_ends(self, n: int) -> None:
        name, began = self.requests.pop(n % len(self.requests))
        self.act(self.box.release(name, began, self.now))

    # Processes.

    @precondition(lambda self: self.processes)
    @rule(n=st.integers(0, 9), fact=st.sampled_from([Fact.ALIVE, Fact.HEALTHY, Fact.HEALTHY]))
    def a_load_moves(self, n: int, fact: Fact) -> None:
        name = [*self.processes][n % len(self.processes)]
        if self.processes[name] == "loading":
            self.box.progressed(name, n / 9, self.now)
            if fact is Fact.HEALTHY:
                self.processes[name] = "ready"
                self.by_hand.discard(name)
            self.act(self.box.saw(name, fact, self.now))

    @precondition(lambda self: "told to go" in self.processes.values())
    @rule(n=st.integers(0, 9), crossed=st.sampled_from([None, None, Fact.ALIVE, Fact.HEALTHY]))
    def a_process_ends_as_told(self, n: int, crossed: Fact | None) -> None:
        told = [name for name, state in self.processes.items() if state == "told to go"]
        name = told[n % len(told)]
        if crossed is not None:
            self.act(self.box.saw(name, crossed, self.now))
        else:
            self.end(name)
            self.act(self.box.saw(name, Fact.EXITED, self.now))

    @precondition(lambda self: self.processes)
    @rule(n=st.integers(0, 9), exit=st.sampled_from([CRASH, OOM]))
    def a_process_crashes(self, n: int, exit: Exit) -> None:
        name = [*self.processes][n % len(self.processes)]
        tried_again = exit is OOM and not self.box.engines[name].again
        if self.processes[name] == "loading" and not tried_again:
            self.by_hand.discard(name)
        self.end(name)
        self.act(self.box.saw(name, Fact.EXITED, self.now, exit))

    # What the shell does, and what must hold when it does.

    def act(self, effects: list[Do]) -> None:
        for do in effects:
            if isinstance(do.effect, Spawn):
                self.spawn(do.model, do.booking)
            else:
                self.stop(do.model, do.effect.force)

    def spawn(self, name: str, booking: Bytes) -> None:
        assert name not in self.processes, "two processes of one model"
        asked = {
            m
            for demand, until in self.said.values()
            for m, wanted in demand.models.items()
            if self.now < until and any(wanted.waiting.values())
        }
        assert name in asked | self.by_hand, "a start that nobody wants"
        assert booking == self.box.engines[name].booking != {}
        taken = add([self.booked(), self.box.ledger.strangers])
        assert fits({pool: taken[pool] for pool in booking}, TWO_GPUS)
        self.processes[name] = "loading"
        pid = self.pids[name] = max(self.takes, default=0) + 1
        one_gpu = {p: min(size, 3 * GIB) for p, size in booking.items() if p != HOST}
        self.takes[pid] = dict([*one_gpu.items()][:1])

    def end(self, name: str) -> None:
        """Its memory comes back some time."""
        del self.processes[name], self.pids[name]

    def stop(self, name: str, force: bool) -> None:
        state = self.processes[name]
        assert force == (state == "told to go")
        if state == "ready" and any(name == model for model, _ in self.requests):
            assert self.now >= self.draining[name] + LIMITS.drain, "stopped while it serves"
        if state == "loading" and self.box.engines[name].machine.failure is not None:
            self.by_hand.discard(name)
        self.processes[name] = "told to go"

    def booked(self) -> Bytes:
        return add(engine.booking for engine in self.box.engines.values())

    @invariant()
    def promises_are_kept(self) -> None:
        assert fits(self.booked(), TWO_GPUS)
        for name, engine in self.box.engines.items():
            machine = engine.machine
            waits_for_memory = machine.step == Step.AWAITING_VRAM
            lives = machine.phase is not Phase.IDLE and not waits_for_memory
            assert (name in self.processes) == lives
            assert (engine.booking != {}) == (machine.phase is not Phase.IDLE)
            assert machine.in_flight == [m for m, _ in self.requests].count(name)
            if machine.phase is Phase.SWITCHING:
                self.draining.setdefault(name, machine.since)
            else:
                self.draining.pop(name, None)
        assert all(claim.because for claim in self.box.inventory.claims)
        assert all(wait.because for wait in self.box.waits)
        assert self.box.deadline(self.now) >= self.now

    def teardown(self) -> None:
        shown = report(self.box, Memory(Host(8, 0, 8)), self.now, wall=1e9)
        assert Status.from_json(shown.to_json()) == shown
        self.act(self.box.close(self.now))
        self.promises_are_kept()
        while self.requests:
            self.a_request_ends(0)
        assert set(self.processes.values()) <= {"told to go"}


TestWhateverHappens = Life.TestCase
TestWhateverHappens.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Examples.generate, Examples.shrink],
    suppress_health_check=[HealthCheck.too_slow],
)
