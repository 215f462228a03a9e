from __future__ import annotations

import pytest

from shared.errors import Unavailable
from shared.uploads import UNBOUNDED, Uploads


def test_bodies_on_their_way_in_have_room_together_and_no_more() -> None:
    uploads = Uploads(10)
    uploads.take(6)
    with pytest.raises(Unavailable) as refused:
        uploads.take(5)
    assert (refused.value.code, refused.value.status) == ("queue_full", 503)
    uploads.take(4)
    uploads.give(6)
    uploads.take(6)


def test_where_there_is_no_bound_there_is_room() -> None:
    UNBOUNDED.take(2**50)
    UNBOUNDED.give(2**50)
