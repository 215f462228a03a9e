from __future__ import annotations

from typing import Any

import pytest

from router.effects import Send
from router.limits import LineLimits
from router.line import Line
from shared.status import ModelStatus
from tests.core.said import (
    catalogue,
    idle,
    load_error,
    never_fits,
    ready,
    starting,
    status,
    ticket,
)

NOW = 5.0


def fleet(**boxes: ModelStatus) -> Line:
    """Each box has x, and says this of it."""
    line = Line(LineLimits(100, 1000, 600.0, 15.0), boxes)
    for box, model in boxes.items():
        line.knows(box, catalogue("x", box=box), now=0.0)
        line.heard(box, status(model, box=box), now=0.0)
    return line


def of(line: Line, box: str) -> dict[str, Any]:
    told: dict[str, Any] = next(b for b in line.explain("x", NOW)["boxes"] if b["box"] == box)
    return told


def why(line: Line, box: str) -> str:
    return str(of(line, box)["because"])


def test_with_nobody_waiting_it_says_where_one_request_would_go_and_asks_nobody() -> None:
    line = fleet(a=ready("x", in_flight=1, service_s=1.0), b=idle("x", ready_in_s=3.0))
    told = line.explain("x", NOW)
    assert (told["waiting"], told["asked"], told["would_ask"]) == (0, [], ["a"])
    assert told["because"] == "a has it ready and a free slot"
    assert told["copy"]["wanted"] is False
    assert line.asked("x") == []


@pytest.mark.parametrize("names", ["ab", "ba", "cd", "dc"])
def test_it_names_the_box_that_the_next_request_is_sent_to(names: str) -> None:
    taken, free = names
    line = fleet(**{taken: ready("x", in_flight=3), free: ready("x")})
    told = line.explain("x", NOW)
    assert (told["would_ask"], told["because"]) == ([free], f"{free} has it ready and a free slot")
    assert [of(line, box)["chosen"] for box in names] == [False, True]
    (sent,) = line.arrived(ticket("1", arrived=1.0), 1.0)
    assert isinstance(sent, Send)
    assert sent.box == free


def test_of_each_box_it_tells_what_is_expected_and_what_that_is_made_of() -> None:
    line = fleet(a=idle("x", ready_in_s=3.0, disturbs_s=0.5), b=idle("x", ready_in_s=3.25, slots=2))
    assert of(line, "b") == {
        "box": "b",
        "url": "b",
        "live": True,
        "phase": "idle",
        "holds": False,
        "chosen": True,
        "expected_s": 3.25,
        "parts": {"load_s": 3.25, "line_s": 0.0, "disturbs_s": 0.0, "others_s": 0.0},
        "because": "3.2 s until it is ready",
    }
    assert why(line, "a") == "3.0 s until it is ready, 0.5 s that it would cost other models"
    assert line.explain("x", NOW)["because"] == (
        "no box holds it; b is expected to serve the last who waits in 3.2 s"
    )


def test_what_it_says_is_what_is_done() -> None:
    line = fleet(
        a=ready("x", slots=1, in_flight=1, service_s=2.0), b=idle("x", ready_in_s=5.0, slots=4)
    )
    line.arrived(ticket("1", arrived=1.0), 1.0)
    assert line.explain("x", NOW)["because"] == "a holds it and serves the last who waits in 2.0 s"
    line.arrived(ticket("2", arrived=2.0), 2.0)
    told = line.explain("x", NOW)
    assert told["asked"] == told["would_ask"] == ["a", "b"]
    assert told["waiting"] == 2
    assert told["copy"] == {
        "wanted": True,
        "box": "b",
        "because": "the last who waits is served in 4.0 s by the copies there, "
        "more than 0.5 of the 5.0 s that b needs",
    }
    assert why(line, "a") == "4.0 s for a slot"


def test_a_copy_that_is_not_wanted_is_told_with_its_reason_too() -> None:
    line = fleet(a=ready("x"), b=idle("x", ready_in_s=5.0))
    assert line.explain("x", NOW)["copy"]["because"].endswith(
        "no more than 0.5 of the 5.0 s that b needs"
    )
    assert why(line, "a") == "at once"
    assert fleet(a=starting("x")).explain("x", NOW)["copy"] is None


def test_it_says_why_a_box_may_not_serve() -> None:
    line = fleet(
        a=idle("x", never_fits("needs 9, has 8")),
        b=idle("x", load_error(1000.0, retry_in_s=20.0)),
        c=idle("x"),
    )
    line.lost("c", 1.0, "no route")
    assert line.explain("x", NOW)["would_ask"] == []
    assert line.explain("x", NOW)["because"] == "no box may serve it now"
    assert line.explain("x", NOW)["copy"] is None
    assert why(line, "a") == "needs 9, has 8"
    assert why(line, "b") == "its load failed here, and is not tried again for 15 s"
    assert why(line, "c") == "it is not heard: no route"
    assert of(line, "c")["phase"] is None
    assert (of(line, "c")["expected_s"], of(line, "c")["parts"]) == (None, {})


def test_it_says_why_a_load_that_failed_is_not_tried_everywhere() -> None:
    line = fleet(a=starting("x"), b=idle("x", ready_in_s=2.0), c=idle("x", disturbs_s=2.0))
    line.arrived(ticket("1", arrived=1.0), 1.0)
    crashed = load_error(1000.0, cause="crashed")
    line.heard("a", status(idle("x", crashed), box="a", seq=2), 2.0)
    assert line.asked("x") == ["b"]
    assert why(line, "a") == "its load failed here, and is not tried here again for those who wait"
    assert why(line, "c") == "its load failed elsewhere, for a cause that any box would meet"


def test_a_box_that_was_never_heard_is_told_as_that() -> None:
    line = Line(LineLimits(100, 1000, 600.0, 15.0), "a")
    line.knows("a", catalogue("x", box="a"), now=0.0)
    assert why(line, "a") == "it is not heard: it has said nothing yet"
