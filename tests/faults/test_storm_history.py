"""The judge of a storm: what it lets pass, and what it must not."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.faults.storm.clients import expected
from tests.faults.storm.history import Asked, History, Seen, Trouble
from tests.faults.storm.schedule import KINDS, picked, schedule

STREAM = Asked("n-1", "quick", "a", tokens=3, stream=True)
PLAIN = replace(STREAM, stream=False)
TEXT = expected(STREAM)
WHOLE = Seen(200, TEXT, dones=1)


def judged(asked: Asked, seen: Seen, *troubles: Trouble) -> tuple[list[str], list[str]]:
    """Its ends and what was found wrong; `troubles`: of its router, while it asks."""
    history = History(expected)
    history.invoke(asked, 0.0)
    for trouble in troubles:
        history.troubled(asked.front, trouble)
    history.end(asked.nonce, seen, 1.0)
    history.close(2.0)
    return list(history.ends), [breach.what for breach in history.breaches]


def broken_at(*story: Callable[[History], None]) -> list[str]:
    """What is found wrong with a request that breaks at 10.0, after that story."""
    history = History(expected)
    for step in story:
        step(history)
    history.end(STREAM.nonce, Seen(how="broken"), 10.0)
    return [breach.what for breach in history.breaches]


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
        (PLAIN, Seen(503, errors=("shutting_down",)), "an error that may not be"),
        (PLAIN, Seen(200, how="unreadable"), "an unreadable answer"),
    ],
)
def test_one_end_is_as_it_may_not_be(asked: Asked, seen: Seen, breach: str) -> None:
    (found,) = judged(asked, seen)[1]
    assert found.startswith(breach)


def test_where_the_way_is_broken_a_client_may_hear_nothing_more() -> None:
    for seen in (Seen(how="broken"), Seen(200, TEXT[:8], how="broken")):
        assert judged(STREAM, seen, "broken")[1] == []


def test_where_the_way_is_broken_bytes_may_still_not_be_wrong() -> None:
    assert judged(STREAM, Seen(200, "tok0", how="broken"), "broken")[1] == ["wrong bytes"]


@pytest.mark.parametrize("trouble", ["broken", "closing"])
def test_no_trouble_excuses_who_waits_for_ever_or_gets_what_nobody_can_read(
    trouble: Trouble,
) -> None:
    assert judged(STREAM, Seen(how="late"), trouble)[1] == ["no end in time"]
    assert judged(STREAM, Seen(how="unreadable"), trouble)[1] == ["an unreadable answer"]


def test_a_router_that_ends_in_order_owes_an_end_to_whom_it_has_begun_to_answer() -> None:
    assert judged(STREAM, Seen(how="broken"), "closing")[1] == []
    assert judged(STREAM, Seen(200, TEXT[:8], how="broken"), "closing")[1] == ["broken off"]


def test_only_a_router_that_ends_may_say_so() -> None:
    said = Seen(503, errors=("shutting_down",))
    assert judged(STREAM, said, "closing")[1] == []
    assert judged(STREAM, said, "broken")[1] == ["an error that may not be: shutting_down"]


def ask(history: History) -> None:
    history.invoke(STREAM, 0.0)


def trouble_at(front: str, trouble: Trouble = "broken") -> Callable[[History], None]:
    return lambda history: history.troubled(front, trouble)


def well_at(now: float) -> Callable[[History], None]:
    return lambda history: history.well("a", "broken", now)


@pytest.mark.parametrize(
    ("story", "found"),
    [
        ([ask], ["broken off"]),
        ([ask, trouble_at("a")], []),
        ([trouble_at("a"), ask], []),
        ([ask, trouble_at("b")], ["broken off"]),
        ([trouble_at("a"), well_at(9.9), ask], ["broken off"]),
        ([ask, trouble_at("a"), well_at(9.9)], []),  # it hears of it a moment later
        ([ask, trouble_at("a"), well_at(5.0)], ["broken off"]),  # for something else, then
        ([ask, trouble_at("a", "refusing")], ["broken off"]),
        ([trouble_at("a", "refusing"), ask], []),
        # Held up on the way: what happened meanwhile is heard of when it is healed.
        ([ask, trouble_at("a"), well_at(5.0), lambda history: history.healed("a", 9.0)], []),
        ([ask, lambda history: history.healed("a", 9.0)], ["broken off"]),
    ],
)
def test_a_trouble_excuses_whom_it_met_and_only_for_a_moment(
    story: list[Callable[[History], None]], found: list[str]
) -> None:
    assert broken_at(*story) == found


def test_those_who_are_excused_are_counted() -> None:
    history = History(expected)
    history.invoke(STREAM, 0.0)
    history.troubled("a", "broken")
    history.end(STREAM.nonce, Seen(how="broken"), 1.0)
    assert history.excused == 1


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
