"""Models that come and go without anybody waiting: keep-alive, preloads, standbys, and what a
box learns of how its models are used."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.status import Phase
from sidecar.box import Box
from sidecar.engine import Model
from sidecar.failure import Exit
from sidecar.machine import Fact
from sidecar.memory import Host, Memory
from sidecar.plan import Rules
from sidecar.report import report
from tests.core.test_box import GPU, SPAWN, STOP, did, loaded, make_box, model, phase, says, waits

SEEN = Memory(Host(total=8, used=0, free=8))


def box_with(*models: Model, preload: tuple[str, ...] = (), min_resident: float = 0.0) -> Box:
    rules = Rules(120.0, min_resident, preload)
    return Box("box1", "9f2c", {m.id: m for m in models}, GPU, rules, 0.0)


def used(box: Box, name: str, now: float, keep_alive: float | None = None) -> None:
    """A request that takes a second."""
    assert box.admit(name, None, now, keep_alive) is None
    box.release(name, now, now + 1)


def expires_in(box: Box, name: str, now: float) -> float | None:
    return next(m.expires_in_s for m in report(box, SEEN, now, 0.0).models if m.id == name)


# Keep-alive.


def test_a_model_leaves_when_it_was_not_used_for_its_keep_alive() -> None:
    box = loaded(box_with(replace(model("a"), keep_alive=60)), "a")
    used(box, "a", 10)
    assert box.deadline(11) == 71
    assert box.tick(70.9) == []
    assert did(box.tick(71)) == [("a", STOP)]


def test_the_status_tells_when_a_model_expires_and_nothing_while_it_is_used() -> None:
    box = loaded(box_with(replace(model("a"), keep_alive=60), model("b", 2)), "a", "b")
    used(box, "a", 10)
    assert expires_in(box, "a", 31) == 40
    assert expires_in(box, "b", 31) is None
    box.admit("a", None, 31)
    assert expires_in(box, "a", 32) is None


def test_the_last_requests_wish_comes_before_the_config() -> None:
    box = loaded(box_with(replace(model("a"), keep_alive=60)), "a")
    used(box, "a", 10, keep_alive=300)
    assert box.deadline(11) == 311
    used(box, "a", 20)
    assert box.deadline(21) == 81, "a request without a wish means what the config says"


def test_a_wish_for_nothing_unloads_as_soon_as_the_answer_is_over() -> None:
    box = loaded(box_with(model("a")), "a")
    box.admit("a", None, 10, keep_alive=0)
    assert did(box.release("a", 10, 11)) == [("a", STOP)]


def test_no_keep_alive_takes_a_model_from_those_who_wait_for_a_slot() -> None:
    box = loaded(box_with(replace(model("a"), keep_alive=0, slots=1)), "a", now=0)
    box.heard("r", says(1, a=waits()), 0)
    box.admit("a", None, 0)
    box.heard("r", says(2, a=waits()), 1)
    assert box.release("a", 0, 2) == []


def test_a_wish_ends_with_the_engine_that_it_was_made_to() -> None:
    box = loaded(box_with(model("a")), "a")
    used(box, "a", 10, keep_alive=0)
    box.saw("a", Fact.EXITED, 11)
    loaded(box, "a", now=20)
    assert box.tick(1000) == []


def test_a_model_stays_for_its_least_stay_whatever_its_keep_alive() -> None:
    box = loaded(box_with(replace(model("a"), keep_alive=0), min_resident=60), "a", now=10)
    assert expires_in(box, "a", 30) == 40
    assert box.tick(69.9) == []
    assert did(box.tick(70)) == [("a", STOP)]


def test_a_pinned_model_has_no_keep_alive() -> None:
    box = loaded(box_with(replace(model("a"), keep_alive=0, pinned=True)), "a")
    assert (box.tick(1000), expires_in(box, "a", 1000)) == ([], None)


# Preloads.


def test_preloads_are_loaded_at_the_start_as_far_as_there_is_room() -> None:
    box = box_with(model("a", 4), model("b", 4), model("c", 4), preload=("c", "a", "b"))
    assert did(box.tick(0)) == [("c", SPAWN), ("a", SPAWN)]


def test_a_preload_that_is_also_a_standby_is_loaded_once() -> None:
    box = box_with(replace(model("a", 2), standby=True), preload=("a",))
    assert did(box.tick(0)) == [("a", SPAWN)]


def test_a_preload_without_room_at_the_start_is_told_and_does_not_come_later() -> None:
    box = box_with(model("a"), model("b"), preload=("a", "b"))
    assert did(box.tick(0)) == [("a", SPAWN)]
    assert report(box, SEEN, 0, 0.0).problems == ("preload: there was no room for b",)
    box.saw("a", Fact.HEALTHY, 1)
    box.unload("a", 2)
    assert box.saw("a", Fact.EXITED, 3) == []
    loaded(box, "b", now=4)
    assert report(box, SEEN, 5, 0.0).problems == ()


def test_a_preload_waits_for_those_who_wait_for_the_box() -> None:
    box = box_with(model("a"), model("b", 2), model("c", 2), preload=("b",))
    box.demands.heard("r", says(1, a=1, c=1), 0)
    assert did(box.tick(0)) == [("a", SPAWN), ("c", SPAWN)]
    box.heard("r", says(2), 1)
    assert box.inventory.left_out == ["b"]


def test_a_preload_that_was_sent_away_does_not_come_back_by_itself() -> None:
    box = box_with(model("a"), preload=("a",))
    box.tick(0)
    box.saw("a", Fact.HEALTHY, 1)
    assert did(box.unload("a", 2)) == [("a", STOP)]
    assert box.saw("a", Fact.EXITED, 3) == []


def test_a_preload_that_fails_is_not_tried_for_ever() -> None:
    box = box_with(model("a"), preload=("a",))
    box.tick(0)
    assert box.saw("a", Fact.EXITED, 1, Exit("crashed", "exited with code 1")) == []


def test_a_preload_whose_file_is_missing_is_loaded_when_it_is_there() -> None:
    box = box_with(model("a"), preload=("a",))
    assert box.found({"a": Exit("file_missing", "there is no file")}, 0) == []
    assert did(box.found({}, 9)) == [("a", SPAWN)]


# Standbys.


def standby_and_big() -> Box:
    """A standby that had to leave for a big model; both take 5 s to load, as far as is known."""
    box = box_with(replace(model("a"), standby=True), model("big"))
    assert did(box.tick(0)) == [("a", SPAWN)]
    box.saw("a", Fact.HEALTHY, 1)
    assert did(box.load("big", 2)) == [("a", STOP)]
    assert did(box.saw("a", Fact.EXITED, 2)) == [("big", SPAWN)]
    box.saw("big", Fact.HEALTHY, 7)
    return box


def test_a_standby_that_had_to_leave_is_put_back_when_the_big_one_goes_idle() -> None:
    box = standby_and_big()
    box.admit("big", None, 7)
    box.release("big", 7, 107)
    back = box.deadline(107)
    assert back == pytest.approx(107 + 2 * (1 + 5))
    [wait] = box.waits
    assert (wait.model, wait.because) == (
        "a",
        "kept ready while nobody waits: in 12 s, if big stays idle",
    )
    assert did(box.tick(back)) == [("big", STOP)]
    assert did(box.saw("big", Fact.EXITED, back)) == [("a", SPAWN)]
    [story] = box.switches.values()
    assert (story.from_, story.to) == (("big",), "a")


def test_a_standby_stays_away_while_the_big_one_is_used() -> None:
    box = standby_and_big()
    box.admit("big", None, 7)
    assert box.tick(5000) == []


def test_an_operator_who_unloads_a_standby_means_it_until_it_is_asked_for_again() -> None:
    box = box_with(replace(model("a"), standby=True))
    box.tick(0)
    box.saw("a", Fact.HEALTHY, 1)
    assert did(box.unload("a", 2)) == [("a", STOP)]
    assert box.saw("a", Fact.EXITED, 3) == box.tick(1e6) == []
    assert did(box.load("a", 1e6)) == [("a", SPAWN)]
    box.saw("a", Fact.HEALTHY, 1e6)
    box.saw("a", Fact.EXITED, 1e6 + 1, Exit("crashed", "killed"))
    assert phase(box, "a") is Phase.STARTING, "it belongs here again"


def test_a_standby_that_cannot_be_loaded_sends_nobody_away_for_another_try() -> None:
    box = box_with(replace(model("a"), standby=True), model("b"))
    box.tick(0)
    box.saw("a", Fact.EXITED, 1, Exit("crashed", "exited with code 1"))
    assert did(box.load("b", 1)) == [("a", STOP)], "it was being tried again"
    box.saw("a", Fact.EXITED, 2)
    box.saw("b", Fact.HEALTHY, 7)
    assert (box.tick(1e6), box.deadline(7)) == ([], float("inf"))


def test_a_standby_has_no_keep_alive_not_even_by_request() -> None:
    box = box_with(replace(model("a"), standby=True))
    box.tick(0)
    box.saw("a", Fact.HEALTHY, 1)
    used(box, "a", 2, keep_alive=0)
    assert phase(box, "a") is Phase.READY


# What is learned.


def test_a_model_that_was_asked_for_again_at_once_is_kept_for_a_moment() -> None:
    box = loaded(make_box(), "a")
    for now in (10.0, 11.1, 12.2, 13.3):
        used(box, "a", now)
    assert box.heard("r", says(1, b=1), 14.4) == []
    assert box.deadline(14.4) == pytest.approx(14.3 + 1.0)
    assert did(box.tick(15.3)) == [("a", STOP)]


def test_a_model_with_a_line_of_its_own_does_not_go_idle_between_two_requests() -> None:
    box = loaded(box_with(model("a", slots=1)), "a")
    for seq in range(1, 9):
        box.heard("r", says(seq, a=waits()), float(seq))
        used(box, "a", seq + 0.1)
    assert not box.engines["a"].habits.returns


def test_an_old_message_teaches_nothing() -> None:
    box = loaded(make_box(), "a")
    box.heard("r", says(2), 9)
    used(box, "a", 10)
    before = box.engines["a"].habits._returning
    box.heard("r", says(1, a=1), 11)
    assert box.engines["a"].habits._returning == before


def test_a_model_learns_also_from_who_asks_when_it_has_left() -> None:
    box = loaded(make_box(), "a")
    used(box, "a", 10)
    box.heard("r", says(1, b=1), 11)
    box.saw("a", Fact.EXITED, 11.1)
    box.heard("r", says(2, b=1, a=1), 99)
    assert not box.engines["a"].habits.returns
    box.heard("r", says(3, b=1), 99.1)
    assert box.engines["a"].habits._returning < 0.5


# What routers may expect.


def test_the_status_tells_when_each_model_could_be_ready_and_what_that_costs() -> None:
    box = loaded(make_box(), "a")
    used(box, "a", 10)
    shown = {m.id: m for m in report(box, SEEN, 11, 0.0).models}
    assert (shown["a"].ready_in_s, shown["a"].disturbs_s, shown["a"].service_s) == (0, 0, 1)
    assert (shown["b"].ready_in_s, shown["b"].disturbs_s, shown["b"].service_s) == (5, 5, None)
