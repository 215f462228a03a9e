from __future__ import annotations

import pytest

from sidecar.memory import HOST, Bytes, Need, placements
from sidecar.needs import corrected, has_too_little, learned, shortage

GIB = 2**30
BOX = {"gpu0": 24, "gpu1": 16, HOST: 32}
DECLARED = Need(10, "declared", on_host=False)
ESTIMATED = Need(10, "estimated", on_host=False)
UNKNOWN = Need(None, "unknown", on_host=False)
ON_HOST = Need(10, "estimated", on_host=True)


def by(need: Need, peaks: Bytes) -> tuple[tuple[Bytes, ...], str]:
    return learned(need, placements(need, BOX), BOX, peaks)


@pytest.mark.parametrize(
    ("need", "peaks", "known", "source"),
    [
        (DECLARED, {"gpu0": 4}, ({"gpu0": 10}, {"gpu1": 10}), "declared"),
        (ESTIMATED, {}, ({"gpu0": 10}, {"gpu1": 10}), "estimated"),
        (ESTIMATED, {"gpu1": 4, HOST: 2}, ({"gpu0": 10}, {"gpu1": 4}), "learned"),
        (ESTIMATED, {"gpu0": 12}, ({"gpu0": 12}, {"gpu1": 10}), "learned"),
        (ON_HOST, {HOST: 6}, ({HOST: 10},), "estimated"),
        (ON_HOST, {HOST: 12}, ({HOST: 12},), "learned"),
        (UNKNOWN, {}, (BOX,), "unknown"),
        (UNKNOWN, {"gpu0": 4, HOST: 2}, ({"gpu0": 4},), "learned"),
        (UNKNOWN, {"gpu0": 0, HOST: 2}, ({HOST: 2},), "learned"),
    ],
)
def test_a_need_is_declared_else_measured_else_estimated_else_the_whole_box(
    need: Need, peaks: Bytes, known: tuple[Bytes, ...], source: str
) -> None:
    assert by(need, peaks) == (known, source)


def test_what_has_run_here_fits_here_whatever_was_counted_in() -> None:
    assert by(ESTIMATED, {"gpu0": 99, "gpu1": 99})[0] == ({"gpu0": 24}, {"gpu1": 16})
    assert by(UNKNOWN, {"gpu0": 99})[0] == ({"gpu0": 24},)


def test_what_was_measured_on_a_gpu_that_is_gone_is_no_guide() -> None:
    assert by(UNKNOWN, {"gpu7": 4}) == ((BOX,), "unknown")


def test_who_may_not_have_the_whole_box_is_known_where_all_its_gpus_are() -> None:
    some = ({"gpu0": 24, "gpu1": 16}, {"gpu1": 16})
    assert learned(UNKNOWN, some, BOX, {"gpu1": 4, HOST: 2}) == (({"gpu1": 4},), "learned")
    assert learned(UNKNOWN, some, BOX, {"gpu0": 4, HOST: 2}) == (some, "unknown")


@pytest.mark.parametrize(
    ("need", "booking", "peak", "corrected_to"),
    [
        (DECLARED, {"gpu0": 10}, {"gpu0": 4}, {"gpu0": 10}),
        (ESTIMATED, {"gpu0": 10}, {"gpu0": 4, HOST: 3}, {"gpu0": 4}),
        (ESTIMATED, {"gpu0": 10}, {"gpu0": 12}, {"gpu0": 12}),
        (ESTIMATED, {"gpu0": 10}, {"gpu0": 4, "gpu1": 2}, {"gpu0": 4, "gpu1": 2}),
        (ESTIMATED, {"gpu0": 10}, {"gpu0": 0}, {"gpu0": 10}),
        (ON_HOST, {HOST: 10}, {HOST: 4}, {HOST: 10}),
        (ON_HOST, {HOST: 10}, {HOST: 14}, {HOST: 14}),
        (UNKNOWN, BOX, {"gpu1": 4, HOST: 3}, {"gpu1": 4}),
        (UNKNOWN, BOX, {HOST: 3}, {HOST: 3}),
        (UNKNOWN, BOX, {}, BOX),
        (UNKNOWN, {"gpu1": 16}, {HOST: 3}, {"gpu1": 16}),
    ],
)
def test_a_booking_becomes_what_its_engine_was_seen_to_take(
    need: Need, booking: Bytes, peak: Bytes, corrected_to: Bytes
) -> None:
    assert corrected(need, booking, peak) == corrected_to


def test_what_strangers_and_pinned_models_hold_is_short_whoever_leaves() -> None:
    assert shortage({"gpu0": 10}, BOX, {"gpu0": 14}, {}) == {}
    assert shortage({"gpu0": 10, "gpu1": 10}, BOX, {"gpu0": 15}, {"gpu1": 9}) == {
        "gpu0": 1,
        "gpu1": 3,
    }


@pytest.mark.parametrize(
    ("strangers", "pinned", "said"),
    [
        (20, 0, "has 4.0 GiB of 24.0 GiB: 20.0 GiB are used by others"),
        (0, 18, "has 6.0 GiB of 24.0 GiB: 18.0 GiB are booked by pinned models, which never leave"),
        (
            20,
            6,
            "has 0.0 GiB of 24.0 GiB: 20.0 GiB are used by others "
            "and 6.0 GiB are booked by pinned models, which never leave",
        ),
    ],
)
def test_room_that_others_hold_is_told_as_a_sum(strangers: int, pinned: int, said: str) -> None:
    words = has_too_little(
        {"gpu0": 10 * GIB},
        "gpu0",
        {"gpu0": 24 * GIB},
        {"gpu0": strangers * GIB},
        {"gpu0": pinned * GIB},
    )
    assert words == f"needs 10.0 GiB, GPU 0 {said}"


def test_the_host_has_a_name_too() -> None:
    words = has_too_little({HOST: GIB}, HOST, {HOST: GIB}, {}, {HOST: GIB})
    assert words.startswith("needs 1.0 GiB, the host has 0.0 GiB of 1.0 GiB")
