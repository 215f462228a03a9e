from __future__ import annotations

from typing import Any

from shared.status import Phase
from sidecar.estimate import Measured
from sidecar.machine import Fact
from sidecar.switches import forecast
from tests.core.test_report import bring, make_box, model, wanted


def two(load: float | None = 10.0, stop: float | None = 2.0) -> Any:
    """`b` takes all the room that `a` has, and somebody wants it from 10 on."""
    box = make_box(model("a", 20), model("b", 20))
    stops, loads = ((seconds,) if seconds else () for seconds in (stop, load))
    box.recall({"a": Measured(stops_s=stops), "b": Measured(loads_s=loads)})
    bring(box, "a", Phase.READY)
    return box


def told(box: Any, now: float) -> Any:
    return forecast(box.switches["b"], box.engines, now)


def test_a_switch_takes_what_its_stop_and_its_load_took_before() -> None:
    box = two()
    wanted(box, 10, b=1)
    assert told(box, 10) == (22, "history")
    assert told(box, 11) == (22, "history")
    assert told(box, 15) == (25, "history")  # the stop takes longer than it did
    box.saw("a", Fact.EXITED, 15)
    assert told(box, 16) == (25, "history")


def test_a_stop_that_was_never_seen_is_taken_for_none() -> None:
    box = two(stop=None)
    wanted(box, 10, b=1)
    assert told(box, 10) == (20, "history")


def test_how_long_a_drain_takes_nobody_knows() -> None:
    box = two()
    box.admit("a", None, 0)
    wanted(box, 10, b=1)
    box.tick(60)
    assert box.engines["a"].machine.phase is Phase.SWITCHING
    assert told(box, 60) == (None, None)


def test_a_load_that_was_never_seen_and_has_no_file_is_not_foretold() -> None:
    box = two(load=None)
    wanted(box, 10, b=1)
    assert told(box, 10) == (None, None)


def test_the_time_left_of_a_switch_never_grows() -> None:
    box = two()
    wanted(box, 10, b=1)
    left = []
    for now in (10.0, 11.0, 12.0, 14.0):
        box.tick(now)
        left.append(box.switches["b"].promise.left(now))
    box.saw("a", Fact.EXITED, 15)
    left.append(box.switches["b"].promise.left(15))
    box.tick(17)
    left.append(box.switches["b"].promise.left(17))
    known = [seconds for seconds in left if seconds is not None]
    assert known == sorted(known, reverse=True)
    assert known[0] == 12
