from __future__ import annotations

import json

import pytest

from router.failures import broken_off, fell_silent, no_stream, not_let_in


def test_a_client_whose_key_is_good_is_not_told_that_a_key_is_wrong() -> None:
    error = not_let_in("box1")
    assert (error.status, error.code, error.retry) == (503, "box_unreachable", True)
    assert error.message == "The box box1 does not let this router in: the router's log says more."


def test_who_has_lost_its_box_is_told_that_the_engine_died_and_where() -> None:
    for error, words in ((fell_silent("box1"), "box1"), (broken_off("small"), "small")):
        assert (error.status, error.code, error.type) == (502, "engine_died", "server_error")
        assert words in error.message


OURS = ("engine_error", "server_error")


@pytest.mark.parametrize(
    ("status", "body", "message", "code", "kind"),
    [
        (400, {"error": {"message": "no", "code": "why"}}, "no", "why", "invalid_request_error"),
        (500, {"error": {"message": "no", "code": 500}}, "no", *OURS),
        (500, {"error": {"message": ""}}, "The engine answered 500.", *OURS),
        (500, {"error": "no"}, '{"error": "no"}', *OURS),
        (502, {"detail": "no"}, '{"detail": "no"}', *OURS),
    ],
)
def test_what_an_engine_says_instead_of_a_stream_is_told_as_an_error(
    status: int, body: object, message: str, code: str, kind: str
) -> None:
    error = no_stream(status, json.dumps(body).encode())
    assert (error.message, error.code, error.type) == (message, code, kind)
    assert error.more == {"engine_status": status}


def test_an_engine_that_answers_no_json_is_quoted_and_one_that_says_nothing_by_its_status() -> None:
    assert no_stream(500, b"<html>" + b"x" * 1000).message == "<html>" + "x" * 494
    assert no_stream(503, b"").message == "The engine answered 503."
