from __future__ import annotations

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
    strangers,
    subtract,
)

GIB = 2**30
TWO_GPUS = {"gpu0": 24 * GIB, "gpu1": 8 * GIB, HOST: 16 * GIB}
NO_GPU = {HOST: 16 * GIB}


def seen(*used: int) -> Memory:
    gpus = tuple(Gpu(n, f"GPU-{n}", "card", 24, u, None) for n, u in enumerate(used))
    return Memory(Host(total=100, used=30, free=70), gpus)


def test_engines_may_take_every_gpu_and_nine_tenths_of_the_host() -> None:
    assert capacity(seen(0, 0), None) == {"gpu0": 24, "gpu1": 24, HOST: 90}
    assert capacity(seen(), 40) == {HOST: 40}
    assert capacity(seen(), 0) == {HOST: 0}


def test_what_is_used_beyond_our_bookings_belongs_to_strangers() -> None:
    assert strangers(seen(10, 5), {gpu(0): 8, HOST: 3}) == {"gpu0": 2, "gpu1": 5}


def test_memory_that_is_booked_and_not_used_yet_is_no_strangers() -> None:
    assert strangers(seen(3), {gpu(0): 8}) == {"gpu0": 0}


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
