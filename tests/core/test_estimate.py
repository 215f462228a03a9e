from __future__ import annotations

import pytest

from sidecar.estimate import History, Load, Measured, Promise, Shape, mean, memory_need


def test_the_first_measurement_is_the_mean_and_later_ones_move_it() -> None:
    assert mean(None, 10, 0.3) == 10
    assert mean(10, 20, 0.3) == pytest.approx(13)


def test_loads_stops_and_answers_are_learned_each_by_itself() -> None:
    history = History()
    for took in (10, 20):
        history.loaded(history.begins(100), 100 + took)
        history.stopped(took / 10)
        history.served(took / 5)
    learned = [history.load, history.stop, history.service]
    assert learned == pytest.approx([15, 1.5, 2.4])


def test_one_load_that_found_the_disk_cold_does_not_spoil_the_estimate() -> None:
    history = History()
    for took in (60, 2, 2.2, 2.1):
        history.loaded(history.begins(0), took)
    assert history.load == pytest.approx(2.15)


def test_only_the_newest_measurements_count() -> None:
    history = History()
    for took in range(1, 12):
        history.loaded(history.begins(0), took)
        history.stopped(took)
    assert history.measured == Measured(loads_s=(7, 8, 9, 10, 11), stops_s=(7, 8, 9, 10, 11))
    assert history.load == 9


def test_of_each_engine_the_peak_is_kept_where_it_was() -> None:
    history = History()
    for life in range(6):
        history.took("GPU-1", 10 * life, of_the_last=False)
        history.took("GPU-1", 10 * life + 5, of_the_last=True)
    history.took("host", 3, of_the_last=False)
    assert history.measured.peaks == {"GPU-1": (15, 25, 35, 45, 55), "host": (3,)}


def test_an_estimate_names_its_source_and_without_one_there_is_no_number() -> None:
    history = History()
    assert history.load_estimate() == (None, "unknown")
    history.size = 4_000_000_000
    assert history.load_estimate() == (10.0, "size")
    history.loaded(history.begins(0), 2.5)
    assert history.load_estimate() == (2.5, "history")


def test_what_was_measured_outlives_a_sidecar() -> None:
    history = History()
    load = history.begins(0)
    load.reports(1.0, 3)
    history.loaded(load, 4)
    history.stopped(0.5)
    assert history.measured == Measured(loads_s=(4,), shares=(0.75,), stops_s=(0.5,))
    later = History(measured=history.measured)
    assert later.begins(10) == Load(10, 4, "history", 0.75)


# How far a load is.


def test_a_first_load_is_as_far_as_its_engine_says_and_nobody_knows_before() -> None:
    load = Load(began=0, expected=10, source="size", share=None)
    assert load.progress(1) == (None, None)
    load.reports(0.4, 2)
    assert load.progress(2) == (0.4, "engine")
    load.reports(1.0, 5)
    assert load.progress(60) == (0.99, "engine")  # ready is what it is not yet


def test_a_report_is_scaled_by_the_share_of_the_load_that_it_covers() -> None:
    load = Load(began=0, expected=10, source="history", share=0.5)
    assert load.progress(2) == (0.2, "history")
    load.reports(0.5, 2)
    assert load.progress(4.5) == (0.25, "engine")
    load.reports(1.0, 5)
    assert load.progress(5) == (0.5, "engine")
    assert load.progress(8) == (0.8, "history")  # beyond its report: what loads took before
    assert load.progress(99) == (0.99, "history")


def test_a_report_that_is_behind_what_was_told_never_moves_it_backwards() -> None:
    load = Load(began=0, expected=10, source="history", share=1.0)
    assert load.progress(6) == (0.6, "history")
    load.reports(0.1, 6)
    assert load.progress(9) == (0.6, "history")
    load.reports(0.7, 20)
    assert load.progress(20) == (0.7, "engine")


def test_where_no_engine_reports_loads_are_measured_by_those_before() -> None:
    load = Load(began=10, expected=4, source="history", share=None)
    assert load.progress(11) == (0.25, "history")
    load.reports(0.9, 11)  # from now on it does: what it covers is learned from this load
    assert load.progress(11) == (0.25, "history")
    assert load.covered(14) is None
    load.reports(0.96, 13)
    assert load.covered(14) == 0.75


def test_a_load_that_took_no_time_says_nothing_of_what_its_reports_cover() -> None:
    load = Load(began=5, expected=None, source="unknown", share=None)
    load.reports(1.0, 5)
    assert load.covered(5) is None


def test_a_report_never_moves_backwards() -> None:
    load = Load(began=0, expected=None, source="unknown", share=None)
    assert load.reports(0.5, 1)
    assert not load.reports(0.4, 2)
    assert not load.reports(0.5, 2)
    assert load.progress(2) == (0.5, "engine")


# When it will be done.


@pytest.mark.parametrize(
    ("expected", "source", "due"), [(None, "unknown", None), (8.0, "size", 9), (8.0, "history", 9)]
)
def test_before_its_engine_says_anything_a_load_takes_what_is_expected(
    expected: float | None, source: str, due: float | None
) -> None:
    load = Load(1, expected, source, share=1.0)
    assert load.due() == ((due, source) if due else (None, None))


def test_a_pace_corrects_what_loads_took_before_the_more_the_further_it_is() -> None:
    load = Load(began=0, expected=10, source="history", share=0.5)
    load.reports(0.4, 4)  # a fifth of the load in 4 s: 20 s in all
    assert load.due() == (pytest.approx(0.8 * 10 + 0.2 * 20), "engine")
    load.reports(1.0, 8)
    assert load.due() == (pytest.approx(0.5 * 10 + 0.5 * 16), "engine")


@pytest.mark.parametrize(("expected", "source"), [(2.0, "size"), (None, "unknown")])
def test_a_pace_replaces_a_guess(expected: float | None, source: str) -> None:
    load = Load(0, expected, source, share=None)
    load.reports(0.25, 5)
    assert load.due() == (20, "engine")


def test_of_an_engine_that_was_never_heard_a_report_corrects_nothing_yet() -> None:
    load = Load(began=0, expected=10, source="history", share=None)
    load.reports(0.1, 5)
    assert load.due() == (10, "history")


def test_a_promise_is_told_with_its_source_until_it_is_broken() -> None:
    promise = Promise()
    assert promise.left(0) is None
    promise.revise(10, "history", 0)
    assert (promise.left(4), promise.source) == (6, "history")
    assert promise.left(10) == 0
    assert promise.left(10.1) is None


def test_what_comes_sooner_is_told_and_what_comes_a_little_later_is_not() -> None:
    promise = Promise()
    promise.revise(10, "history", 0)
    promise.revise(8, "engine", 1)
    assert (promise.left(1), promise.source) == (7, "engine")
    promise.revise(8.9, "engine", 2)
    assert promise.left(2) == 6


def test_a_promise_that_cannot_be_kept_is_taken_back_and_the_time_left_never_grows() -> None:
    promise = Promise()
    promise.revise(10, "history", 0)
    promise.revise(30, "engine", 4)
    assert (promise.left(4), promise.source) == (None, None)
    promise.revise(29, "engine", 20)
    assert promise.left(20) is None
    promise.revise(29, "engine", 24)
    assert promise.left(24) == 5
    promise.revise(None, None, 25)
    promise.revise(29, "history", 24.5)
    assert promise.left(25) is None
    promise.revise(29, "history", 25)
    assert promise.left(25) == 4


def test_what_was_due_is_not_put_off() -> None:
    promise = Promise()
    promise.revise(10, "history", 0)
    promise.revise(20, "history", 11)
    assert promise.left(11) is None
    promise.revise(20, "history", 20)
    assert promise.left(20) == 0


def test_a_model_needs_its_weights_and_the_cache_of_its_context() -> None:
    qwen3_8b = Shape(kv_heads=36 * 8, key_length=128, value_length=128, context_length=40960)
    small, large = memory_need(5 * 2**30, qwen3_8b, 4096), memory_need(5 * 2**30, qwen3_8b, 8192)
    assert large - small == 4096 * 144 * 1024  # 144 KiB a token, as llama.cpp reports
    assert small == 5 * 2**30 + 576 * 2**20 + 64 * 2**20
