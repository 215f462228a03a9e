"""A sidecar that is killed at named points of its life, and comes back: tests/faults/restarts.py
does it 200 times, here it is done where most can go wrong.
"""

import random
from pathlib import Path

import pytest

from tests.faults import points
from tests.faults.restarts import Restarts, watched
from tests.faults.storm import quiet
from tests.faults.storm.fleet import fleet_box
from tests.faults.storm.history import History

INSTANTS = ("launch-noted", "ready-seen", "stop-signalled", "exit-seen")


async def test_f29_killed_in_a_switch_it_comes_back_with_the_truth_and_what_was_ready_serves_on(
    tmp_path: Path,
) -> None:
    history = History(lambda asked: "")
    box = fleet_box("1", tmp_path / "box", history)
    async with box.seat, watched(box, history):
        restarts = Restarts(box, history, random.Random(1))
        for point in INSTANTS:
            assert await restarts.at(point, 1), point
        came = restarts.comebacks
        assert came.lost == []
        assert restarts.served == came.adopted == came.to_adopt - came.let_go > len(INSTANTS)
        await quiet.without_engines(box, history)
        await quiet.nobody_else(history, {box.seat.pid})
    assert history.breaches == []


@pytest.mark.parametrize("name", points.POINTS)
def test_each_fault_point_is_in_the_product(name: str) -> None:
    points.found(points.POINTS[name])


def test_a_fault_point_acts_the_nth_time_and_changes_nothing_else(tmp_path: Path) -> None:
    met: list[int] = []
    page = tmp_path / "page"
    point = points.Point("sidecar.whole_file", "write", "before")
    owner, name, whole = points.found(point)
    try:
        points.arm(point, 2, lambda: met.append(len(page.read_bytes())))
        for text in (b"1", b"22", b"333"):
            owner.write(page, text)
    finally:
        setattr(owner, name, whole)
    assert (met, page.read_bytes()) == ([1], b"333")
