from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.memory import (
    HOST,
    Gpu,
    Host,
    Memory,
    Need,
    add,
    capacity,
    does_not_fit,
    fits,
    gpu,
    gpus_of,
    placements,
    subtract,
    uuids,
    with_lost,
)

GIB = 2**30
TWO_GPUS = {"gpu0": 24 * GIB, "gpu1": 8 * GIB, HOST: 16 * GIB}
NO_GPU = {HOST: 16 * GIB}
UUIDS = {"GPU-0": "gpu0", "GPU-1": "gpu1"}
Gpus = int | tuple[int | str, ...] | None


def seen(*used: int) -> Memory:
    gpus = tuple(Gpu(n, f"GPU-{n}", "card", 24, u, None) for n, u in enumerate(used))
    return Memory(Host(total=100, used=30, free=70), gpus)


def test_engines_may_take_every_gpu_and_nine_tenths_of_the_host() -> None:
    assert capacity(seen(0, 0), None) == {"gpu0": 24, "gpu1": 24, HOST: 90}
    assert capacity(seen(), 40) == {HOST: 40}
    assert capacity(seen(), 0) == {HOST: 0}


def test_a_model_may_be_placed_on_each_gpu_that_could_ever_hold_it() -> None:
    assert placements(Need(6 * GIB, "declared", on_host=False), TWO_GPUS) == (
        {"gpu0": 6 * GIB},
        {"gpu1": 6 * GIB},
    )
    assert placements(Need(9 * GIB, "declared", on_host=False), TWO_GPUS) == ({"gpu0": 9 * GIB},)
    assert placements(Need(8 * GIB, "declared", on_host=False), TWO_GPUS)[1:]


def test_an_engine_that_uses_no_gpu_books_on_the_host() -> None:
    assert placements(Need(6, "estimated", on_host=True), TWO_GPUS) == ({HOST: 6},)
    assert placements(Need(6, "estimated", on_host=False), NO_GPU) == ({HOST: 6},)


@pytest.mark.parametrize("size", [6, None])
def test_while_gpus_may_be_there_unseen_only_what_uses_none_books_on_the_host(
    size: int | None,
) -> None:
    assert placements(Need(size, "estimated", on_host=True), NO_GPU, blind=True)
    either = Need(size, "estimated", on_host=False)
    assert placements(either, NO_GPU, blind=True) == ()
    assert does_not_fit(either, NO_GPU, blind=True) == "needs a GPU, this box has none"
    assert placements(either, TWO_GPUS, blind=True) == placements(either, TWO_GPUS)


def test_a_reader_that_hangs_on_a_box_without_gpus_hides_none() -> None:
    assert replace(seen(), problem="hangs").trouble == "hangs"
    assert replace(seen(), problem="hangs", no_gpus=True).trouble is None


def test_an_unknown_need_takes_the_whole_box() -> None:
    assert placements(Need(None, "unknown", on_host=False), TWO_GPUS) == (TWO_GPUS,)


def test_a_model_that_can_never_fit_is_told_the_sum() -> None:
    for on_host, pools, sum in [
        (False, TWO_GPUS, "needs 25.0 GiB, the largest GPU has 24.0 GiB"),
        (True, TWO_GPUS, "needs 25.0 GiB, the limit for engines is 16.0 GiB"),
        (False, NO_GPU, "needs 25.0 GiB, the limit for engines is 16.0 GiB"),
    ]:
        need = Need(25 * GIB, "declared", on_host)
        assert placements(need, pools) == ()
        assert does_not_fit(need, pools) == sum


# Which GPUs.


def needs(gib: int | None, gpus: Gpus) -> Need:
    return Need(None if gib is None else gib * GIB, "declared", False, gpus)


def test_a_model_for_several_gpus_takes_the_same_of_each_of_them() -> None:
    three = {**TWO_GPUS, "gpu2": 24 * GIB}
    assert placements(needs(16, 2), three) == (
        {"gpu0": 8 * GIB, "gpu1": 8 * GIB},
        {"gpu0": 8 * GIB, "gpu2": 8 * GIB},
        {"gpu1": 8 * GIB, "gpu2": 8 * GIB},
    )
    assert placements(needs(40, 2), three) == ({"gpu0": 20 * GIB, "gpu2": 20 * GIB},)
    assert placements(needs(24, 3), three) == (dict.fromkeys(("gpu0", "gpu1", "gpu2"), 8 * GIB),)
    odd = Need(5, "declared", False, 2)
    assert placements(odd, TWO_GPUS) == ({"gpu0": 3, "gpu1": 3},)


def test_a_model_for_one_gpu_is_not_put_on_the_host() -> None:
    assert placements(needs(6, 1), TWO_GPUS) == ({"gpu0": 6 * GIB}, {"gpu1": 6 * GIB})
    assert placements(needs(6, 1), NO_GPU) == ()


def test_a_model_for_certain_gpus_is_put_on_exactly_those_in_that_order() -> None:
    for gpus in ((1, 0), ("GPU-1", "GPU-0"), (1, "GPU-0")):
        (booking,) = placements(needs(6, gpus), TWO_GPUS, UUIDS)
        assert list(booking.items()) == [("gpu1", 3 * GIB), ("gpu0", 3 * GIB)]
    assert placements(needs(9, (1,)), TWO_GPUS) == ()
    assert placements(needs(6, (2,)), TWO_GPUS) == ()
    assert placements(needs(6, (0, "GPU-0")), TWO_GPUS, UUIDS) == ()


def test_an_unknown_need_takes_all_of_the_gpus_that_the_model_may_have() -> None:
    assert placements(needs(None, (1,)), TWO_GPUS) == ({"gpu1": 8 * GIB},)
    assert placements(needs(None, 1), TWO_GPUS) == ({"gpu0": 24 * GIB}, {"gpu1": 8 * GIB})
    assert placements(needs(None, 2), NO_GPU) == ()


def test_of_very_many_gpus_a_model_gets_neighbours() -> None:
    eight = {gpu(n): GIB for n in range(8)}
    assert len(placements(needs(1, 4), eight)) == 70
    nine = {gpu(n): GIB for n in range(9)}
    assert [list(booking) for booking in placements(needs(1, 8), nine)][1:3] == [
        ["gpu0", "gpu1", "gpu2", "gpu3", "gpu4", "gpu5", "gpu6", "gpu8"],
        ["gpu0", "gpu1", "gpu2", "gpu3", "gpu4", "gpu5", "gpu7", "gpu8"],
    ]
    assert [gpus_of(booking) for booking in placements(needs(1, 4), nine)] == [
        (n, n + 1, n + 2, n + 3) for n in range(6)
    ]


def test_a_lost_gpu_holds_nothing_and_makes_no_box_without_gpus() -> None:
    alone = with_lost({HOST: 16 * GIB}, {"gpu0": 24 * GIB, HOST: 16 * GIB})
    assert alone == {"gpu0": 0, HOST: 16 * GIB}
    for gib in (6, None):
        for gpus in (None, 1, (0,)):
            assert placements(needs(gib, gpus), alone) == ()
    assert placements(Need(None, "unknown", on_host=True), alone) == (alone,)
    beside = with_lost({"gpu1": 8 * GIB, HOST: 0}, {"gpu0": 24 * GIB, "gpu1": 8 * GIB, HOST: 0})
    assert placements(needs(6, None), beside) == ({"gpu1": 6 * GIB},)
    assert placements(needs(None, None), beside) == (beside,)


@pytest.mark.parametrize(
    ("gib", "gpus", "capacity", "sum"),
    [
        (50, 2, TWO_GPUS, "needs 25.0 GiB on each of 2 GPUs, none of the 2 here has that much"),
        (30, 2, TWO_GPUS, "needs 15.0 GiB on each of 2 GPUs, 1 of the 2 here has that much"),
        (30, 1, TWO_GPUS, "needs 30.0 GiB, the largest GPU has 24.0 GiB"),
        (6, 3, TWO_GPUS, "needs 3 GPUs, this box has 2"),
        (6, 1, NO_GPU, "needs a GPU, this box has none"),
        (6, None, {"gpu0": 0, HOST: 16}, "needs a GPU, this box has none"),
        (None, 2, NO_GPU, "needs 2 GPUs, this box has none"),
        (9, (1,), TWO_GPUS, "needs 9.0 GiB on GPU 1, which has 8.0 GiB"),
        (
            18,
            ("GPU-1", 0),
            TWO_GPUS,
            "needs 9.0 GiB on each of GPU-1 and GPU 0, the smallest of which has 8.0 GiB",
        ),
        (6, (7, 0, "GPU-x"), TWO_GPUS, "needs GPU 7 and GPU-x, which cannot be seen"),
        (None, (7,), TWO_GPUS, "needs GPU 7, which cannot be seen"),
        (6, (0, "GPU-0"), TWO_GPUS, "names one GPU by its index and by its UUID"),
        (None, (0, "GPU-0"), TWO_GPUS, "names one GPU by its index and by its UUID"),
    ],
)
def test_a_model_that_does_not_fit_on_its_gpus_is_told_the_sum(
    gib: int | None, gpus: Gpus, capacity: dict[str, int], sum: str
) -> None:
    assert placements(needs(gib, gpus), capacity, UUIDS) == ()
    assert does_not_fit(needs(gib, gpus), capacity, UUIDS) == sum


def test_a_gpu_is_found_by_its_uuid() -> None:
    assert uuids(seen(0, 0)) == UUIDS


def test_a_booking_fits_when_every_pool_has_the_room() -> None:
    assert fits({"gpu0": 6}, {"gpu0": 6})
    assert not fits({"gpu0": 6}, {"gpu0": 5, HOST: 9})
    assert not fits({"gpu0": 1, HOST: 1}, {"gpu0": 1})
    assert fits({}, {})


def test_bookings_are_added_and_subtracted_by_pool() -> None:
    assert add([{"gpu0": 1}, {"gpu0": 2, HOST: 3}, {}]) == {"gpu0": 3, HOST: 3}
    assert subtract({"gpu0": 3, HOST: 3}, {"gpu0": 4, "gpu9": 1}) == {"gpu0": -1, HOST: 3}


def test_a_booking_names_its_gpus_whatever_their_numbers() -> None:
    assert gpus_of({gpu(10): 1, gpu(2): 1, HOST: 1}) == (2, 10)
    assert gpus_of({HOST: 1}) == ()
