from __future__ import annotations

from router.failures import not_let_in


def test_a_client_whose_key_is_good_is_not_told_that_a_key_is_wrong() -> None:
    error = not_let_in("box1")
    assert (error.status, error.code, error.retry) == (503, "box_unreachable", True)
    assert error.message == "The box box1 does not let this router in: the router's log says more."
