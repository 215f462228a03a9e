from __future__ import annotations

import pytest

from sidecar.estimate import History, Shape, mean, memory_need


def test_the_first_measurement_is_the_mean_and_later_ones_move_it() -> None:
    assert mean(None, 10, 0.3) == 10
    assert mean(10, 20, 0.3) == pytest.approx(13)


def test_loads_stops_and_answers_are_learned_each_by_itself() -> None:
    history = History()
    history.loaded(10)
    history.stopped(1)
    history.served(2)
    history.loaded(20)
    history.stopped(2)
    history.served(4)
    learned = [history.load, history.stop, history.service]
    assert learned == pytest.approx([13, 1.3, 2.4])


def test_an_estimate_names_its_source_and_without_one_there_is_no_number() -> None:
    history = History()
    assert history.load_estimate() == (None, "unknown")
    history.size = 4_000_000_000
    assert history.load_estimate() == (4.0, "size")
    history.loaded(2.5)
    assert history.load_estimate() == (2.5, "history")


def test_a_model_needs_its_weights_and_the_cache_of_its_context() -> None:
    qwen3_8b = Shape(kv_heads=36 * 8, key_length=128, value_length=128, context_length=40960)
    small, large = memory_need(5 * 2**30, qwen3_8b, 4096), memory_need(5 * 2**30, qwen3_8b, 8192)
    assert large - small == 4096 * 144 * 1024  # 144 KiB a token, as llama.cpp reports
    assert small == 5 * 2**30 + 576 * 2**20 + 64 * 2**20
