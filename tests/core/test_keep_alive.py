from __future__ import annotations

import math
from typing import Any

import pytest

from router.keep_alive import LONGEST, seconds
from shared.errors import InvalidRequest
from shared.keep_alive import heard, told


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (300, 300.0),
        (1.5, 1.5),
        (0, 0.0),
        (-0.0, 0.0),
        (-1, math.inf),
        (-0.5, math.inf),
        (-math.inf, math.inf),
        ("10m", 600.0),
        ("24h", 86400.0),
        ("1h30m", 5400.0),
        ("1h15m30.5s", 4530.5),
        ("+5s", 5.0),
        ("1.5h", 5400.0),
        (".5m", 30.0),
        ("5.s", 5.0),
        ("250ms", 0.25),
        ("2us", 2e-6),
        ("2\u00b5s", 2e-6),
        ("2\u03bcs", 2e-6),
        ("7ns", 7e-9),
        ("0", 0.0),
        ("-0", 0.0),
        ("0s", 0.0),
        ("-1", math.inf),
        ("-1m", math.inf),
        ("-1h30m", math.inf),
        ("300", 300.0),
        (int(LONGEST), float(int(LONGEST))),
    ],
)
def test_what_clients_of_ollama_send_is_understood(value: object, expected: float) -> None:
    assert seconds(value) == pytest.approx(expected)


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "m",
        ".s",
        "10 m",
        " 10m",
        "10m ",
        "1d",
        "1h 30m",
        "--1m",
        "1h-30m",
        "forever",
        "never",
        "inf",
        "nan",
        "1e3s",
        "1_0s",
        "\u0661s",  # a digit, but not one of ASCII
        "9999999h",
        "9" * 400 + "h",
        "9" * 400,
        True,
        False,
        [],
        {},
        None,
        math.nan,
        math.inf,
        10**400,
    ],
)
def test_anything_else_is_the_client_s_fault(value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        seconds(value)
    assert (caught.value.code, caught.value.param) == ("invalid_request", "keep_alive")


@pytest.mark.parametrize(
    "text",
    ["0" * 64 + "s", "1" * 2**20 + "x", "1s" * 2**19 + "x"],
    ids=["zeros", "digits", "units"],
)
def test_a_text_that_no_duration_needs_is_refused_before_it_is_read(text: str) -> None:
    with pytest.raises(InvalidRequest):
        seconds(text)
    assert seconds("0" * 63 + "s") == 0.0


@pytest.mark.parametrize("value", [0.0, 0.25, 600.0, LONGEST, math.inf])
def test_what_a_router_says_is_what_a_sidecar_hears(value: float) -> None:
    assert heard(told(value).decode()) == pytest.approx(value)


def test_without_the_header_there_is_no_wish() -> None:
    assert heard(None) is None
    assert heard("600") == 600.0


@pytest.mark.parametrize("value", ["", "-1", "10m", "inf", "nan", "1e9", "1_0", " 1", "9" * 13])
def test_a_header_that_no_router_sends_is_refused(value: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        heard(value)
    refused: Any = caught.value
    assert (refused.status, refused.code) == (400, "invalid_request")
