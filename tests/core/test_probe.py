from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from router.probe import (
    Box,
    Limits,
    Seen,
    State,
    Verdict,
    Waiting,
    judge,
    no_answer_of_ours,
    of_router,
    of_sidecar,
    refused,
    unreachable,
    unwell,
)
from shared.status import LoadError, ModelStatus, Phase, Status, Step, Switch
from tests.core.said import idle, load_error, never_fits, ready, starting, status

LIMITS = Limits(warning=10.0, critical=20.0)
URL = "http://127.0.0.1:8080"


def seen(*statuses: Status | None, line: tuple[Waiting, ...] = ()) -> Seen:
    boxes = tuple(Box(s.box if s else f"http://b{n}", s) for n, s in enumerate(statuses, 1))
    return Seen(boxes, line)


def verdict(*statuses: Status | None, models: tuple[str, ...] = (), **more: Any) -> Verdict:
    return judge(seen(*statuses, **more), LIMITS, models)


def switching(to: str, elapsed_s: float) -> Switch:
    return Switch("s-1", to, Phase.STOPPING, Step.STOPPING, elapsed_s)


def test_nothing_loaded_and_nobody_waiting_is_fine() -> None:
    said = verdict(status(idle("x")))
    assert (said.state, said.text) == (State.OK, "box1: ready: none; waiting: nobody")


def test_what_is_ready_and_who_waits_is_told() -> None:
    first, second = status(ready("b"), ready("a")), status(ready("a"), box="box2")
    said = verdict(first, second, line=(Waiting("c", 2, 5.0), Waiting("d", 1, 1.0)))
    assert said.state is State.OK
    assert said.text == "box1, box2: ready: a, b; waiting: 2 for c, 1 for d"


def test_figures_are_those_of_everything_that_was_heard() -> None:
    models = (ready("a", in_flight=2), ready("b", in_flight=1), idle("c", load_error(1.0)))
    box = status(*models, switches=(switching("d", 3.25),))
    said = verdict(box, None, line=(Waiting("d", 3, 4.5), Waiting("e", 1, 1.0)))
    assert said.figures == (
        "boxes=1;;;0;2 waiting=4;;;0 in_flight=3;;;0 failed=1;;;0 longest=4.500s;10;20;0"
    )


@pytest.mark.parametrize(
    ("boxes", "state"),
    [((status(), None), State.WARNING), ((None, None), State.CRITICAL)],
)
def test_a_lost_box_is_a_warning_while_another_is_there(
    boxes: tuple[Status | None, ...], state: State
) -> None:
    said = verdict(*boxes)
    assert said.state is state
    assert "box http://b2 cannot be reached" in said.text


def test_a_problem_of_a_box_is_a_warning() -> None:
    said = verdict(replace(status(), problems=("no room", "no file")))
    assert (said.state, said.text) == (State.WARNING, "box box1: no room; box box1: no file")


def test_a_model_that_failed_is_a_warning_with_its_reason() -> None:
    said = verdict(status(ready("a"), idle("x", load_error(1.0))))
    assert (said.state, said.text) == (State.WARNING, "x failed on box1: no room")


def test_an_error_that_is_a_problem_of_the_box_as_well_is_told_once() -> None:
    box = replace(status(idle("x", never_fits("needs 9"))), problems=("x: needs 9",))
    assert verdict(box).text == "box box1: x: needs 9"


@pytest.mark.parametrize(
    ("seconds", "state"),
    [(10.0, State.OK), (10.1, State.WARNING), (20.0, State.WARNING), (20.1, State.CRITICAL)],
)
def test_a_long_wait_and_a_long_switch_count_by_their_seconds(seconds: float, state: State) -> None:
    assert verdict(status(), line=(Waiting("x", 1, seconds),)).state is state
    assert verdict(status(switches=(switching("x", seconds),))).state is state


def test_of_a_wait_and_a_switch_for_the_same_model_the_longer_is_told() -> None:
    box = status(starting("x"), switches=(switching("x", 11.0),))
    assert verdict(box, line=(Waiting("x", 1, 12.4),)).text == "somebody waits for x for 12 s"
    assert verdict(box, line=(Waiting("x", 1, 9.0),)).text == "switching to x for 11 s"


def test_what_is_worst_comes_first() -> None:
    said = verdict(status(idle("x", load_error(1.0))), line=(Waiting("y", 1, 99.0),))
    assert said.state is State.CRITICAL
    assert said.text == "somebody waits for y for 99 s; x failed on box1: no room"


# Models that must be there.


def test_a_model_that_no_box_has_is_critical() -> None:
    said = verdict(status(ready("a")), models=("x",))
    assert (said.state, said.text) == (State.CRITICAL, "no box that can be reached has x")


def test_a_model_that_no_box_can_load_is_critical_with_its_reason() -> None:
    said = verdict(status(idle("x", load_error(1.0))), models=("x",))
    assert said.state is State.CRITICAL
    assert said.text == "no box can load x; x failed on box1: no room"


def test_a_model_that_failed_on_one_box_and_not_on_another_is_a_warning() -> None:
    first, second = status(idle("x", load_error(1.0))), status(idle("x"), box="box2")
    assert verdict(first, second, models=("x",)).state is State.WARNING


def test_a_model_whose_engine_died_is_a_warning_since_it_can_be_loaded() -> None:
    died = LoadError("engine_died", "crashed", "ended by SIGSEGV", at=1.0)
    said = verdict(status(idle("x", died)), models=("x",))
    assert (said.state, said.text) == (State.WARNING, "x failed on box1: ended by SIGSEGV")


def test_what_is_amiss_with_other_models_does_not_count() -> None:
    models: tuple[ModelStatus, ...] = (ready("x"), idle("y", load_error(1.0)))
    box = status(*models, switches=(switching("z", 99.0),))
    said = verdict(box, line=(Waiting("y", 1, 99.0),), models=("x",))
    assert said.state is State.OK


# The line of a plugin.


def test_the_line_is_state_text_and_figures() -> None:
    assert Verdict(State.OK, "fine", "a=1").line() == "OK - fine | a=1"
    assert Verdict(State.UNKNOWN, "who?").line() == "UNKNOWN - who?"


def test_an_engines_own_words_never_break_the_line() -> None:
    error = LoadError("load_failed", "crashed", "a|b\nc\x1b[31m  d", at=1.0)
    line = verdict(status(idle("x", error))).line()
    assert line.startswith("WARNING - x failed on box1: a/b c [31m d | boxes=1;")


def test_the_line_is_never_longer_than_old_transports_can_carry() -> None:
    error = LoadError("load_failed", "crashed", "word " * 1000, at=1.0)
    assert len(verdict(status(idle("x", error))).line()) < 1024


# What is heard.


def fleet(
    *boxes: Status,
    lost: tuple[str, ...] = (),
    off: tuple[str, ...] = (),
    line: tuple[Any, ...] = (),
) -> bytes:
    live = [{**json.loads(s.to_json()), "url": URL, "live": True} for s in boxes]
    gone = [{"box": n, "url": n, "live": False, "trouble": "no route"} for n in lost]
    gone += [{"box": n, "url": n, "live": False, "optional": True} for n in off]
    return json.dumps({"boxes": [*live, *gone], "line": line}).encode()


def test_a_router_says_which_boxes_live_and_who_waits() -> None:
    box = status(ready("x"))
    waits = ({"model": "y", "waiting": 2, "oldest_s": 3.5, "box": "box1"},)
    said = of_router(fleet(box, lost=("box2",), line=waits))
    assert said == Seen((Box("box1", box), Box("box2", None, "no route")), (Waiting("y", 2, 3.5),))
    assert "box box2 cannot be reached: no route" in judge(said, LIMITS).text


def test_a_box_that_may_be_off_is_no_cause_for_alarm_unless_nobody_is_there() -> None:
    assert judge(of_router(fleet(status(), off=("gpu",))), LIMITS).state is State.OK
    nobody = judge(of_router(fleet(off=("gpu",))), LIMITS)
    assert (nobody.state, nobody.text) == (State.CRITICAL, "no box can be reached")
    here = fleet(status(ready("x")), status(box="gpu"), off=("other",))
    assert "boxes=2;;;0;2" in judge(of_router(here), LIMITS).figures


def test_a_sidecar_says_how_many_wait_but_not_how_long() -> None:
    box = status(ready("x", waiting=2), idle("y"))
    assert of_sidecar(box.to_json()) == Seen((Box("box1", box),), (Waiting("x", 2, 0.0),))


@pytest.mark.parametrize("said", [b"", b"[]", b"{}", b'{"boxes": [{}], "line": []}', b"ok\n"])
def test_what_is_neither_is_refused(said: bytes) -> None:
    for read in (of_router, of_sidecar):
        with pytest.raises(ValueError):  # noqa: PT011 - of the reader, json or pydantic
            read(said)


def test_nobody_there_is_critical() -> None:
    said = unreachable(URL, "refused")
    assert (said.state, said.text) == (State.CRITICAL, f"{URL} cannot be reached: refused")


def test_an_answer_in_another_shape_is_unknown() -> None:
    assert no_answer_of_ours(URL).state is State.UNKNOWN


def test_who_says_of_itself_that_it_is_not_well_is_critical() -> None:
    said = unwell(URL, "a decision is overdue for 9 s\n")
    assert said.line() == f"CRITICAL - {URL} is not well: a decision is overdue for 9 s"


@pytest.mark.parametrize(
    ("codes", "state", "hint"),
    [
        ((401, 401), State.UNKNOWN, "SWAPYARD_KEY"),
        ((403, 404), State.UNKNOWN, "SWAPYARD_KEY"),
        ((404, 404), State.UNKNOWN, "neither"),
        ((404, 500), State.CRITICAL, "500"),
    ],
)
def test_a_refusal_is_told_by_its_status(codes: tuple[int, ...], state: State, hint: str) -> None:
    said = refused(URL, codes)
    assert said.state is state
    assert hint in said.text
