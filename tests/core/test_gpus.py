from __future__ import annotations

import pytest

from sidecar.gpus import numbered, uses, visible
from sidecar.memory import HOST, Gpu

GIB = 2**30


def nvidia(index: int, uuid: str) -> Gpu:
    return Gpu(index, uuid, "card", 24, 0, None)


def amd(index: int, uuid: str, ordinal: int | None = None) -> Gpu:
    return Gpu(index, uuid, "card", 24, 0, None, "amd", ordinal)


# Numbers.


def test_a_gpu_has_the_number_that_its_driver_gives_it() -> None:
    assert numbered([nvidia(0, "a"), nvidia(1, "b")], {}) == {"a": 0, "b": 1}


def test_a_gpu_that_is_lost_leaves_its_number_free_for_its_return() -> None:
    without = numbered([nvidia(1, "b")], {})
    assert without == {"b": 1}
    assert numbered([nvidia(0, "a"), nvidia(1, "b")], without) == {"b": 1, "a": 0}


def test_a_gpu_keeps_its_number_whatever_its_driver_says_later() -> None:
    assert numbered([nvidia(0, "b")], {"a": 0, "b": 1}) == {"a": 0, "b": 1}


def test_gpus_whose_driver_comes_late_move_no_others() -> None:
    alone = numbered([amd(0, "x"), amd(1, "y")], {})
    later = numbered([nvidia(0, "a"), nvidia(1, "b"), amd(2, "x"), amd(3, "y")], alone)
    assert later == {"x": 0, "y": 1, "a": 2, "b": 3}


# What an engine is shown.

MIXED = (nvidia(0, "GPU-a"), nvidia(1, "GPU-b"), amd(2, "GPU-x"), amd(3, "0000:03:00.0", 1))


def shown(*pools: str, gpus: tuple[Gpu, ...] = MIXED) -> dict[str, str]:
    return visible(dict.fromkeys(pools, 1), gpus, on_host=False)


def test_an_engine_sees_the_gpus_of_its_booking_in_that_order_and_no_others() -> None:
    cards = MIXED[:2]
    assert shown("gpu0", gpus=cards) == {"CUDA_VISIBLE_DEVICES": "GPU-a"}
    assert shown("gpu1", "gpu0", gpus=cards) == {"CUDA_VISIBLE_DEVICES": "GPU-b,GPU-a"}
    assert shown("gpu0", "gpu1", HOST, gpus=cards) == {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}


def test_programs_for_amds_gpus_are_told_by_uuid_or_by_number_where_there_is_none() -> None:
    cards = MIXED[2:]
    assert shown("gpu3", "gpu2", gpus=cards) == {
        "ROCR_VISIBLE_DEVICES": "1,GPU-x",
        "HIP_VISIBLE_DEVICES": "0,1",  # of those that ROCR has left
    }


def test_an_engine_sees_none_of_the_other_makers_gpus() -> None:
    assert shown("gpu1") == {
        "CUDA_VISIBLE_DEVICES": "GPU-b",
        "ROCR_VISIBLE_DEVICES": "",
        "HIP_VISIBLE_DEVICES": "",
    }
    assert shown("gpu2") == {
        "CUDA_VISIBLE_DEVICES": "",
        "ROCR_VISIBLE_DEVICES": "GPU-x",
        "HIP_VISIBLE_DEVICES": "0",
    }


@pytest.mark.parametrize("gpus", [(), MIXED])
def test_an_engine_on_the_host_sees_no_gpu_also_where_we_see_none(gpus: tuple[Gpu, ...]) -> None:
    assert visible({HOST: 1}, gpus, on_host=True) == {
        "CUDA_VISIBLE_DEVICES": "",
        "ROCR_VISIBLE_DEVICES": "",
        "HIP_VISIBLE_DEVICES": "",
    }


def test_nothing_is_said_of_gpus_where_none_is_seen() -> None:
    assert shown(HOST, gpus=()) == {}


# What engines take.

SESSIONS = {10: [10, 11], 20: [20]}


def test_all_processes_of_a_session_count_for_the_one_that_leads_it() -> None:
    taken = {"gpu0": {10: 1, 11: 2, 99: 50}, "gpu1": {20: 7}, HOST: {10: 3, 11: 3, 20: 5}}
    assert uses(SESSIONS, taken) == {
        10: {"gpu0": 3, HOST: 6},
        20: {"gpu1": 7, HOST: 5},
    }


def test_what_the_driver_does_not_tell_is_left_out_and_is_no_zero() -> None:
    foreign = {"gpu0": {99: 50}, HOST: {10: 3, 20: 5}}
    assert uses(SESSIONS, foreign) == {10: {HOST: 3}, 20: {HOST: 5}}


def test_part_of_a_sum_is_not_told_as_all_of_it() -> None:
    assert uses(SESSIONS, {"gpu0": {10: 1, 11: None}, "gpu1": {10: 2, 20: None}}) == {
        10: {"gpu1": 2},
        20: {},
    }


def test_where_nobody_runs_nothing_is_taken() -> None:
    assert uses({}, {"gpu0": {10: 1}}) == {}
