"""The judge of a storm: what it lets pass, and what it must not."""

from dataclasses import replace

import pytest

from tests.faults.storm.box_history import BoxHistory, right
from tests.faults.storm.clients import expected
from tests.faults.storm.history import Asked, History, Seen
from tests.faults.storm.schedule import KINDS, picked, schedule

STREAM = Asked("n-1", "quick", "a", tokens=3, stream=True)
PLAIN = replace(STREAM, stream=False)
TEXT = expected(STREAM)
WHOLE = Seen(200, TEXT, dones=1)


def judged(asked: Asked, seen: Seen, *troubles: bool) -> tuple[list[str], list[str]]:
    """Its ends and what was found wrong; `troubles`: of its router, closing or not."""
    history = History(expected)
    history.invoke(asked, 0.0)
    for closing in troubles:
        history.troubled(asked.front, closing=closing)
    history.end(asked.nonce, seen, 1.0)
    history.close(2.0)
    return list(history.ends), [breach.what for breach in history.breaches]


@pytest.mark.parametrize(
    ("asked", "seen", "end"),
    [
        (STREAM, WHOLE, "ok"),
        (PLAIN, Seen(200, TEXT), "ok"),
        (STREAM, Seen(200, TEXT, dones=1, how="broken"), "ok"),  # all had been said
        (STREAM, Seen(200, TEXT[:8], errors=("engine_died",)), "fail: engine_died"),
        (STREAM, Seen(503, errors=("box_unreachable",)), "fail: box_unreachable"),
        (PLAIN, Seen(502, errors=("engine_died",)), "fail: engine_died"),
        (STREAM, Seen(200, TEXT[:3], how="left", where="answering"), "left: answering"),
        (STREAM, Seen(how="left"), "left: unheard"),
    ],
)
def test_one_end_is_as_it_must_be(asked: Asked, seen: Seen, end: str) -> None:
    assert judged(asked, seen) == ([end], [])


@pytest.mark.parametrize(
    ("asked", "seen", "breach"),
    [
        (STREAM, Seen(200, TEXT), "silent truncation"),
        (STREAM, Seen(200, TEXT[:8]), "silent truncation"),
        (STREAM, Seen(200, TEXT[:8], dones=1), "an end before the end"),
        (PLAIN, Seen(200, TEXT[:8]), "an end before the end"),
        (STREAM, Seen(200, TEXT[:8], how="broken"), "broken off"),
        (STREAM, Seen(how="broken"), "broken off"),
        (STREAM, Seen(200, TEXT[:8], how="late"), "no end in time"),
        (STREAM, Seen(200, "tok0"), "wrong bytes"),
        (STREAM, Seen(200, TEXT + " more", dones=1), "wrong bytes"),
        (STREAM, Seen(200, TEXT, dones=1, errors=("engine_died",)), "more than one end"),
        (STREAM, Seen(200, TEXT, dones=1, more=True), "more than one end"),
        (STREAM, Seen(404, errors=("model_not_found",)), "an error that may not be"),
        (PLAIN, Seen(500, errors=("engine_died",)), "an error with another's status"),
    ],
)
def test_one_end_is_as_it_may_not_be(asked: Asked, seen: Seen, breach: str) -> None:
    (found,) = judged(asked, seen)[1]
    assert found.startswith(breach)


def test_where_the_way_is_broken_a_client_may_hear_nothing_more() -> None:
    for seen in (Seen(how="broken"), Seen(200, TEXT[:8], how="broken"), Seen(how="late")):
        assert judged(STREAM, seen, False)[1] == []


def test_where_the_way_is_broken_bytes_may_still_not_be_wrong() -> None:
    assert judged(STREAM, Seen(200, "tok0", how="broken"), False)[1] == ["wrong bytes"]


def test_a_router_that_ends_in_order_owes_an_end_to_whom_it_has_begun_to_answer() -> None:
    assert judged(STREAM, Seen(how="broken"), True)[1] == []
    assert judged(STREAM, Seen(200, TEXT[:8], how="broken"), True)[1] == ["broken off"]


def test_a_trouble_that_is_over_excuses_nobody_who_asks_later() -> None:
    history = History(expected)
    history.troubled("a")
    history.well("a")
    history.invoke(STREAM, 0.0)
    history.end(STREAM.nonce, Seen(how="broken"), 1.0)
    assert [breach.what for breach in history.breaches] == ["broken off"]


def test_a_trouble_of_one_router_excuses_nobody_at_another() -> None:
    history = History(expected)
    history.invoke(STREAM, 0.0)
    history.troubled("b")
    history.end(STREAM.nonce, Seen(how="broken"), 1.0)
    assert [breach.what for breach in history.breaches] == ["broken off"]


def test_each_request_has_exactly_one_end() -> None:
    history = History(expected)
    history.invoke(STREAM, 0.0)
    history.invoke(replace(STREAM, nonce="n-2"), 0.0)
    history.end(STREAM.nonce, WHOLE, 1.0)
    history.end(STREAM.nonce, WHOLE, 1.0)
    history.close(2.0)
    found = [(breach.what, breach.nonce) for breach in history.breaches]
    assert found == [("more than one end", "n-1"), ("no end", "n-2")]


def test_anothers_answer_is_found_to_be_anothers() -> None:
    history = History(expected)
    other = replace(STREAM, nonce="n-2")
    for asked in (STREAM, other):
        history.invoke(asked, 0.0)
    history.end(STREAM.nonce, Seen(200, expected(other), dones=1), 1.0)
    assert [breach.what for breach in history.breaches] == ["another's answer"]


def test_a_breach_is_told_with_the_newest_faults() -> None:
    history = History(expected)
    history.fault("engine-kill 1", 3.5)
    history.end("nobody", WHOLE, 4.0)
    assert history.breaches[0].faults == ("3.50 engine-kill 1",)


# Of a box.


def model(phase: str, in_flight: int = 0, **more: object) -> dict[str, object]:
    facts = {"id": "one", "in_flight": in_flight, "waiting": 0, "slots": 2, "error": None}
    return {**facts, "phase": phase, "step": None, **more}


def status(seq: int, *models: dict[str, object], boot: str = "x", reserved: int = 0) -> dict:  # type: ignore[type-arg]
    memory = [{"kind": "host", "reserved": reserved}]
    return {"boot": boot, "seq": seq, "models": list(models), "memory": memory}


class Judge(BoxHistory):
    def __init__(self) -> None:
        self.found: list[str] = []
        super().__init__("1", 100, 5.0, lambda what, _: self.found.append(what))


STOPPING = {"step": "stopping current model"}


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ([status(1, model("idle")), status(2, model("starting"))], []),
        ([status(1, model("idle")), status(2, model("ready"))], ["a phase that cannot follow"]),
        ([status(1, model("idle")), status(3, model("ready"))], []),  # one was not seen
        ([status(5, model("idle")), status(1, model("ready"), boot="y")], []),  # another life
        ([status(2, model("idle")), status(2, model("idle"))], ["a number that did not rise"]),
        ([status(1, model("ready", 3))], ["in flight out of bounds"]),
        ([status(1, model("ready", -1))], ["in flight out of bounds"]),
        ([status(1, model("ready"), reserved=101)], ["more booked than there is"]),
        (
            [status(1, model("ready", 1)), status(2, model("stopping", 1, **STOPPING))],
            ["a busy model was evicted"],
        ),
        ([status(1, model("ready")), status(2, model("stopping", **STOPPING))], []),
        (
            [
                status(1, model("ready", 1)),
                status(2, model("stopping", 1, step="waiting for VRAM")),  # it had died
            ],
            [],
        ),
        (
            [
                status(1, model("ready", 1)),
                status(2, model("stopping", 1, **STOPPING, error={"code": "engine_died"})),
            ],
            [],
        ),
    ],
)
def test_what_a_box_may_say_of_itself(told: list[dict[str, object]], found: list[str]) -> None:
    judge = Judge()
    for now, one in enumerate(told):
        judge.said(one, float(now))
    assert judge.found == found


def test_a_busy_model_may_be_evicted_when_its_drain_is_over() -> None:
    judge = Judge()
    judge.said(status(1, model("ready", 1)), 0.0)
    judge.said(status(2, model("switching", 1)), 1.0)
    judge.said(status(3, model("stopping", 1, **STOPPING)), 6.0)
    assert judge.found == []


def test_two_engines_of_one_model_are_found() -> None:
    judge = Judge()
    judge.said(status(1, model("ready")), 0.0)
    judge.living({"one": [7, 8]}, 1.0)
    assert judge.found == ["two engines of one model"]


@pytest.mark.parametrize(("phase", "pids"), [("ready", []), ("switching", []), ("idle", [7])])
def test_a_status_that_stays_wrong_is_found(phase: str, pids: list[int]) -> None:
    judge = Judge()
    judge.said(status(1, model(phase)), 0.0)
    judge.living({"one": pids}, 1.0)
    assert judge.found == []
    judge.living({"one": pids}, 2.5)
    assert judge.found == ["Status and processes differ"]


def test_a_status_that_is_late_for_a_moment_is_let_pass() -> None:
    judge = Judge()
    judge.said(status(1, model("idle")), 0.0)
    judge.living({"one": [7]}, 1.0)
    judge.living({}, 2.0)
    judge.living({"one": [7]}, 3.0)
    judge.unsettled()
    judge.living({"one": [7]}, 4.5)
    assert judge.found == []


def test_what_a_sidecar_said_that_is_gone_is_held_against_nobody() -> None:
    judge = Judge()
    judge.said(status(1, model("ready")), 0.0)
    judge.away()
    for now in (1.0, 5.0):
        judge.living({}, now)
    assert judge.found == []


def test_which_status_is_right() -> None:
    assert right({"one": model("ready"), "two": model("idle")}, {"one": [7]})
    assert not right({"one": model("ready")}, {})
    assert not right({"one": model("idle")}, {"one": [7]})


# The schedule.


def test_the_same_seed_gives_the_same_faults() -> None:
    assert schedule(7, 100, 180.0) == schedule(7, 100, 180.0)
    assert schedule(7, 100, 180.0) != schedule(8, 100, 180.0)


def test_a_schedule_lasts_as_long_as_it_was_told_to_and_has_every_kind() -> None:
    faults = schedule(7, 1000, 1800.0)
    assert 1700 < sum(fault.after for fault in faults) < 1900
    assert {fault.kind for fault in faults} == {kind.name for kind in KINDS}


def test_a_pick_falls_on_one_of_those_that_there_are() -> None:
    assert [picked(pick, "abc") for pick in (0.0, 0.34, 0.999)] == ["a", "b", "c"]
