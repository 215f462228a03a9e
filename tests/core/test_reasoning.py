from __future__ import annotations

from typing import Any

import pytest

from router.progress import served
from router.reasoning import Narrator
from router.remarks import REMARKS
from router.voice import Stream
from shared.status import Phase, Step

STREAM = Stream("chatcmpl-1", "demo", 0, "chat")
REMARKING = Stream("chatcmpl-1", "demo", 0, "chat", remarks=True)
STARTED = 0.1


def told(elapsed: float, **changes: Any) -> dict[str, Any]:
    return {
        "phase": Phase.STARTING,
        "step": Step.AWAITING_READINESS,
        "model": "demo-big",
        "from": [],
        "box": "box1",
        "position": 1,
        "elapsed_s": elapsed,
        "eta_s": None,
        "progress": None,
    } | changes


def ready(elapsed: float) -> dict[str, Any]:
    return told(elapsed, phase=Phase.READY, step=None) | served("loaded", elapsed)


def test_r2_1_a_whole_wait_reads_as_lines_with_the_time_it_took() -> None:
    narrator = Narrator(STREAM)
    leaving = {"phase": Phase.STOPPING, "step": Step.STOPPING, "from": ["demo-small"]}
    said = [
        narrator.says(told(0.0, phase=Phase.IDLE, step=Step.AWAITING_BOX, box=None)),
        narrator.says(told(0.2, **leaving)),
        narrator.says(told(0.4, step=Step.STARTING, eta_s=4.2)),
        narrator.says(told(0.6, progress=0.12)),
        narrator.says(told(1.6, progress=0.2)),
        narrator.says(told(2.6, progress=0.38, eta_s=2.5)),
        narrator.says(told(4.7, progress=0.74)),
        narrator.says(ready(5.14)),
        narrator.says(ready(6.2)),
    ]
    assert said == [
        "demo-big: waiting for its box\n",
        "demo-big on box1: stopping current model (demo-small)\n",
        "demo-big on box1: starting new model, about 5 s left\n",
        "demo-big on box1: waiting for readiness, 12 %\n",
        "",
        "… 3 s, 38 %, about 3 s left\n",
        "… 5 s, 74 %\n",
        "demo-big on box1 is ready after 5.1 s\n",
        "",
    ]


def test_who_did_not_wait_reads_nothing() -> None:
    assert Narrator(STREAM).says(ready(1.0)) == ""


def test_a_place_in_the_line_is_told_to_those_who_are_not_next() -> None:
    said = Narrator(STREAM).says(told(0.0, step=Step.AWAITING_TURN, position=3))
    assert said == "demo-big on box1: waiting for a turn, place 3\n"


def test_a_phase_without_a_step_is_told_by_its_name() -> None:
    said = Narrator(STREAM).says(told(0.0, phase=Phase.SWITCHING, step=None))
    assert said == "demo-big on box1: switching\n"


def test_a_wait_that_goes_on_after_a_turn_that_was_refused_begins_a_line() -> None:
    narrator = Narrator(STREAM)
    narrator.says(told(0.0))
    narrator.says(ready(1.0))
    assert narrator.says(told(1.1)) == "demo-big on box1: waiting for readiness\n"


def test_a_long_wait_stays_readable() -> None:
    narrator = Narrator(STREAM)
    pieces = [narrator.says(told(STARTED + second)) for second in range(600)]
    assert 20 < sum(map(bool, pieces)) < 35


@pytest.mark.parametrize(("stream", "expected"), [(STREAM, False), (REMARKING, True)])
def test_r2_1_remarks_come_now_and_then_and_only_where_they_are_wanted(
    stream: Stream, expected: bool
) -> None:
    narrator = Narrator(stream)
    text = "".join(narrator.says(told(STARTED + second)) for second in range(120))
    said = [remark for remark in REMARKS if remark in text]
    assert bool(said) is expected
    assert len(said) < 10


def test_remarks_begin_elsewhere_for_another_client() -> None:
    def first(id: str) -> str:
        narrator = Narrator(Stream(id, "demo", 0, "chat", remarks=True))
        text = "".join(narrator.says(told(STARTED + second)) for second in range(12))
        return next(remark for remark in REMARKS if remark in text)

    assert len({first(str(n)) for n in range(20)}) > 5
