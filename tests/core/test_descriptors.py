from __future__ import annotations

import pytest

from shared.descriptors import Room, is_look, room

PLENTY, SCARCE, NONE = Room.PLENTY, Room.SCARCE, Room.NONE


@pytest.mark.parametrize(
    ("number", "most", "there_is"),
    [
        (959, 1024, PLENTY),
        (960, 1024, SCARCE),
        (991, 1024, SCARCE),
        (992, 1024, NONE),
        (95, 128, PLENTY),
        (96, 128, SCARCE),
        (111, 128, SCARCE),
        (112, 128, NONE),
        (10_000, 1 << 20, PLENTY),
    ],
)
def test_the_last_descriptors_are_for_looks_and_for_the_program_itself(
    number: int, most: int, there_is: Room
) -> None:
    assert room(number, most) is there_is


@pytest.mark.parametrize("url", [b"/healthz", b"/metrics", b"/api/fleet?x=1", b"/demand/9f2c"])
def test_a_short_answer_that_a_program_is_watched_by_is_a_look(url: bytes) -> None:
    assert is_look(url)


@pytest.mark.parametrize("url", [b"/", b"/v1/models", b"/models/events", b"/healthz/", b"/demand"])
def test_what_is_longer_is_no_look(url: bytes) -> None:
    assert not is_look(url)
