"""What an earlier sidecar has left: what serves is kept, where it has its room, all else goes."""

from __future__ import annotations

import pytest

from shared.status import Phase
from sidecar.box import Box
from sidecar.engine import Left, Model
from sidecar.estimate import Measured
from sidecar.machine import Fact
from sidecar.memory import HOST, Gpu, Host, Memory, Need
from sidecar.plan import Rules
from sidecar.report import report
from tests.core.test_box import GPU, LIMITS, SPAWN, STOP, did, make_box, model, phase, says


def test_an_engine_that_serves_is_kept_with_its_memory() -> None:
    box = make_box()
    assert box.adopt({"a": Left({"gpu0": 8}, serves=True)}, 5) == []
    assert (phase(box, "a"), box.engines["a"].booking) == (Phase.READY, {"gpu0": 8})
    assert box.admit("a", None, 6) is None
    assert did(box.heard("r", says(1, b=1), 7)) == []  # it has no room beside the busy one
    assert did(box.release("a", 6, 8)) == [("a", STOP)]
    assert did(box.saw("a", Fact.EXITED, 9)) == [("b", SPAWN)]


def test_an_engine_of_no_use_goes_and_its_model_can_be_loaded_anew() -> None:
    box = make_box()
    assert did(box.adopt({"a": Left({"gpu0": 8}, serves=False)}, 5)) == [("a", STOP)]
    assert (phase(box, "a"), box.engines["a"].because) == (
        Phase.STOPPING,
        "left behind by an earlier sidecar",
    )
    assert did(box.heard("r", says(1, b=1), 6)) == []  # until it is gone, its room is taken
    assert did(box.saw("a", Fact.EXITED, 7)) == [("b", SPAWN)]


def test_what_fits_together_no_more_is_not_kept_together() -> None:
    box = make_box(model("a", 6), model("b", 6))
    left = {"a": Left({"gpu0": 6}, serves=True), "b": Left({"gpu0": 6}, serves=True)}
    assert did(box.adopt(left, 5)) == [("b", STOP)]
    assert (phase(box, "a"), phase(box, "b")) == (Phase.READY, Phase.STOPPING)


def test_all_are_taken_over_before_anything_new_is_begun() -> None:
    box = make_box(model("a", 5), model("b", 5))
    box.inventory.preload = dict.fromkeys(["b"])
    left = {"a": Left({"gpu0": 5}, serves=True), "b": Left({"gpu0": 5}, serves=True)}
    assert box.adopt(left, 5) == []
    assert (phase(box, "a"), phase(box, "b")) == (Phase.READY, Phase.READY)


def test_nothing_new_is_begun_before_the_memory_was_looked_at() -> None:
    box = make_box(model("a", 5), model("b", 5))
    box.inventory.preload = dict.fromkeys(["b"])
    assert box.adopt({}, 5) == []
    strangers = Memory(Host(8, 0, 8), (Gpu(0, "GPU-0", "", 10, 8, 0),), at=6)
    assert did(box.looked(strangers, {}, 6)) == []
    assert phase(box, "b") is Phase.IDLE


def test_it_holds_what_it_was_seen_to_take_and_not_what_it_was_thought_to() -> None:
    both = {id: Model(id, 2, Need(9, "estimated", on_host=False), LIMITS) for id in "ab"}
    box = Box("box1", "9f2c", both, GPU, Rules(120.0), now=0.0)
    box.supplied(GPU, {"GPU-0": "gpu0"})
    box.recall({id: Measured(peaks={"GPU-0": (4,), "GPU-1": (7,)}) for id in both})
    left = {id: Left({"gpu0": 9}, serves=True) for id in both}
    assert box.adopt(left, 5) == []
    assert {e.booking["gpu0"] for e in box.engines.values()} == {4}
    assert all(set(e.booking) == {"gpu0"} for e in box.engines.values())


def test_an_engine_on_a_gpu_that_is_not_seen_is_let_alone() -> None:
    box = make_box(capacity={HOST: 8})
    assert box.adopt({"a": Left({"gpu0": 8}, serves=True)}, 5) == []
    assert phase(box, "a") is Phase.READY


def test_the_first_status_tells_of_them() -> None:
    box = make_box()
    box.adopt({"a": Left({"gpu0": 8}, serves=True)}, 5)
    seen = Memory(Host(8, 0, 8), (Gpu(0, "GPU-0", "", 10, 8, 0),))
    shown = report(box, seen, 5, 5)
    assert shown.phase is Phase.READY
    assert [(row.kind, row.reserved) for row in shown.memory] == [("gpu", 8), (HOST, 0)]


@pytest.mark.parametrize("told", [{}, {7: {"gpu0": 8}}])
def test_without_a_word_of_the_driver_it_takes_what_it_has_booked(
    told: dict[int, dict[str, int]],
) -> None:
    box = make_box()
    box.adopt({"a": Left({"gpu0": 8}, serves=True)}, 5)
    seen = Memory(Host(8, 0, 8), (Gpu(0, "GPU-0", "", 10, 9, 0),), uses=told, at=6)
    box.looked(seen, {"a": 7}, 6)
    assert box.ledger.held("gpu0") == 8
    assert box.ledger.strangers == {"gpu0": 1}


def test_what_cannot_be_written_down_is_a_problem_until_it_can() -> None:
    box = make_box()
    seen = Memory(Host(8, 0, 8))
    for trouble, problems in [("no room", ("no room",)), ("no room", ("no room",)), (None, ())]:
        box.news = False
        before = box.trouble
        box.wrote(trouble)
        assert box.news == (before != trouble)
        assert report(box, seen, 5, 5).problems == problems


def test_a_box_that_keeps_its_engines_admits_nobody_and_stops_nothing() -> None:
    box = make_box()
    box.adopt({"a": Left({"gpu0": 8}, serves=True)}, 5)
    assert box.admit("a", None, 6) is None
    assert box.close(7, keep=True) == []
    assert box.admit("a", None, 8) == "draining"
    assert box.release("a", 6, 9) == []
    assert phase(box, "a") is Phase.READY
