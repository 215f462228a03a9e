from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from router.story import Story, served_on, story_of
from router.view import BoxView
from shared.status import ModelStatus, Phase, Step, Switch
from tests.core.said import idle, ready, ticket, view

SWITCH = Switch(
    id="s-1",
    to="x",
    phase=Phase.STARTING,
    step=Step.STARTING,
    elapsed_s=1.0,
    from_=("y",),
    progress=0.25,
    progress_source="engine",
    eta_s=4.0,
    eta_source="history",
)


def test_with_no_box_nothing_is_told_but_that_it_waits_for_one() -> None:
    unheard = BoxView("http://a", name="http://a")
    for box in (None, unheard):
        story = story_of("x", box)
        assert (story.phase, story.step, story.box) == (Phase.IDLE, "waiting for its box", None)
        assert (story.at, story.from_, story.ready_at, story.progress) == (None, (), None, None)


def test_the_switch_that_makes_room_is_told_whole() -> None:
    story = story_of("x", view("a", idle("x"), now=10.0, switches=(SWITCH,), at=500.0))
    assert story == Story(
        model="x",
        phase=Phase.STARTING,
        step=Step.STARTING,
        box="a",
        at=500.0,
        from_=("y",),
        ready_at=14.0,
        eta_source="history",
        progress=0.25,
        progress_source="engine",
        switch="s-1",
    )


def test_a_switch_to_another_model_is_not_told() -> None:
    story = story_of("y", view("a", ready("y"), switches=(SWITCH,)))
    assert (story.phase, story.from_) == (Phase.READY, ())


def test_a_switch_whose_end_nobody_knows_has_no_eta() -> None:
    unknown = Switch("s-1", "x", Phase.SWITCHING, Step.DRAINING, elapsed_s=0.0)
    story = story_of("x", view("a", idle("x"), switches=(unknown,)))
    assert story.tell(position=1, elapsed=0.0, now=9.0).eta_s is None


@pytest.mark.parametrize(
    ("phase", "step"),
    [
        (Phase.READY, "waiting for a slot"),
        (Phase.IDLE, "waiting for a turn"),
        (Phase.SWITCHING, "waiting for a turn"),
    ],
)
def test_without_a_switch_it_is_the_model_s_own_phase(phase: Phase, step: str) -> None:
    story = story_of("x", view("a", ModelStatus("x", phase)))
    assert (story.phase, story.step, story.box, story.at) == (phase, step, "a", 1000.0)


def test_who_waits_for_memory_that_others_hold_is_told_so() -> None:
    box = view("a", replace(idle("x"), step=Step.AWAITING_VRAM))
    assert story_of("x", box).step == "waiting for VRAM"


def test_a_model_that_the_box_does_not_report_is_idle() -> None:
    assert story_of("z", view("a", ready("x"))).phase is Phase.IDLE


def test_a_tell_carries_the_story_and_the_place_of_one_request() -> None:
    story = story_of("x", view("a", replace(idle("x"), slots=3), now=10.0, switches=(SWITCH,)))
    tell = story.tell(position=3, elapsed=1.23456, now=11.04)
    assert (tell.model, tell.phase, tell.step, tell.box) == (
        "x",
        Phase.STARTING,
        Step.STARTING,
        "a",
    )
    assert (tell.position, tell.elapsed_s, tell.eta_s) == (3, 1.235, 2.96)
    assert (tell.from_, tell.progress, tell.progress_source) == (("y",), 0.25, "engine")


def test_a_load_that_takes_longer_than_expected_has_no_eta() -> None:
    story = story_of("x", view("a", idle("x"), now=10.0, switches=(SWITCH,)))
    tell = story.tell(position=1, elapsed=0.0, now=14.0)
    assert (tell.eta_s, tell.eta_source) == (0.0, "history")
    assert story.tell(position=1, elapsed=0.0, now=14.1).eta_s is None


def test_who_stands_behind_the_slots_waits_for_the_answers_before_as_well() -> None:
    x = replace(idle("x"), slots=2, service_s=1.5)
    story = story_of("x", view("a", x, now=10.0, switches=(SWITCH,)))
    etas = [story.tell(position, elapsed=0.0, now=11.0).eta_s for position in range(1, 6)]
    assert etas == [3.0, 3.0, 4.5, 4.5, 6.0]
    tell = story.tell(position=5, elapsed=0.0, now=11.0, ahead=3)
    assert (tell.position, tell.eta_s) == (5, 3.0), "those before it for other models are in it"


def test_without_a_known_length_of_answers_nobody_knows_what_comes_behind_the_slots() -> None:
    story = story_of("x", view("a", replace(idle("x"), slots=2), now=10.0, switches=(SWITCH,)))
    assert story.tell(position=2, elapsed=0.0, now=11.0).eta_s == 3.0
    assert story.tell(position=3, elapsed=0.0, now=11.0).eta_s is None
    assert story_of("x", view("a", now=10.0, switches=(SWITCH,))).slots == 1


def turn(now: float, box: str = "a", **changes: Any) -> Story:
    told = {"ready_in_s": 6.0, "load_source": "history", "slots": 2, "service_s": 1.0}
    x = replace(idle("x"), **{"waiting": 1, **told, **changes})
    return story_of("x", view(box, x, now=now))


def test_who_waits_for_a_turn_is_told_when_the_model_could_be_ready() -> None:
    tell = turn(10.0).tell(position=3, elapsed=0.0, now=12.0)
    assert (tell.step, tell.eta_s, tell.eta_source) == ("waiting for a turn", 5.0, "history")
    assert turn(10.0, load_source="size").tell(1, elapsed=0.0, now=12.0).eta_source == "size"
    for changes in ({"ready_in_s": None}, {"load_source": "unknown"}):
        unknown = turn(10.0, **changes).tell(1, elapsed=0.0, now=12.0)
        assert (unknown.eta_s, unknown.eta_source) == (None, None)


def test_what_a_box_said_before_it_heard_that_somebody_waits_is_no_promise() -> None:
    assert turn(10.0).ready_at == 16.0
    assert turn(10.0, waiting=0).ready_at is None


def test_what_was_promised_of_a_turn_is_not_put_off_on_the_same_box() -> None:
    first = turn(10.0)
    assert turn(10.5).after(first).ready_at == 16.0
    assert turn(10.5, ready_in_s=2.0).after(first).ready_at == 12.5
    assert turn(10.5, box="b").after(first).ready_at == 16.5
    switching = story_of("x", view("a", idle("x"), now=13.0, switches=(SWITCH,)))
    assert switching.after(first).ready_at == 17.0


def test_who_waits_for_a_slot_is_told_what_is_usual() -> None:
    story = story_of("x", view("a", ready("x", slots=4, service_s=2.0)))
    told = story.tell(position=2, elapsed=0.0, now=1.0)
    assert (told.eta_s, told.eta_source) == (1.0, "history")
    assert story_of("x", view("a", ready("x"))).served_in(1, now=1.0) is None
    assert turn(10.0).served_in(3, now=12.0) == 5.0


def test_what_was_promised_of_a_switch_is_not_put_off_by_a_late_message() -> None:
    def heard(now: float, **changes: Any) -> Story:
        switch = replace(SWITCH, **changes)
        return story_of("x", view("a", idle("x"), now=now, switches=(switch,)))

    first = heard(10.0)
    assert heard(10.5).after(first).ready_at == 14.0
    assert heard(10.5, eta_s=1.0).after(first).ready_at == 11.5
    assert heard(10.5, eta_s=None).after(first).ready_at is None
    assert heard(10.5).after(heard(10.2, eta_s=None)).ready_at == 14.5
    assert heard(10.5, id="s-2").after(first).ready_at == 14.5
    assert heard(10.5).after(None).ready_at == 14.5


def test_only_phase_step_models_and_box_are_told_at_once() -> None:
    story = story_of("x", view("a", idle("x"), now=10.0, switches=(SWITCH,)))
    later = Story("x", story.phase, story.step, story.box, 9.0, story.from_, 1.0, "size", 0.9, "io")
    assert later.key == story.key
    for other in (
        Story("x", Phase.STOPPING, story.step, "a", from_=("y",)),
        Story("x", story.phase, Step.STOPPING, "a", from_=("y",)),
        Story("x", story.phase, story.step, "b", from_=("y",)),
        Story("x", story.phase, story.step, "a", from_=("z",)),
    ):
        assert other.key != story.key


def test_everything_but_a_ready_model_is_about_a_load() -> None:
    loads = {phase for phase in Phase if Story("x", phase, None).is_about_a_load}
    assert loads == set(Phase) - {Phase.READY}


def test_whose_turn_has_come_is_told_the_box_and_that_it_is_ready() -> None:
    tell = served_on(view("a", ready("x"), at=500.0), ticket("1", arrived=2.0), now=5.0)
    assert (tell.phase, tell.step, tell.box, tell.position) == (Phase.READY, None, "a", 1)
    assert (tell.elapsed_s, tell.eta_s, tell.at) == (3.0, None, 500.0)
    assert served_on(BoxView("k", name="k"), ticket("1"), now=0.0).at is None
