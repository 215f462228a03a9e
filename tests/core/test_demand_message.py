from __future__ import annotations

import json
from typing import Any

import pytest

from shared.demand import LONGEST_TTL, TTL, Demand, ModelDemand

DEMAND = Demand(1, 7, TTL, {"x": ModelDemand({0: 3, -2: 1}, 4.25, 17), "y": ModelDemand(sent=2)})


def message(**changes: Any) -> str:
    return json.dumps({"v": 1, "seq": 1, "ttl_s": 3, "models": {}} | changes)


def wanted(**model: Any) -> str:
    return message(models={"x": model})


def test_a_demand_survives_the_wire() -> None:
    assert Demand.from_json(DEMAND.to_json()) == DEMAND


def test_the_words_on_the_wire_are_the_documented_ones() -> None:
    assert json.loads(DEMAND.to_json()) == {
        "v": 1,
        "seq": 7,
        "ttl_s": 3.0,
        "models": {
            "x": {"waiting": {"0": 3, "-2": 1}, "oldest_s": 4.25, "sent": 17},
            "y": {"waiting": {}, "oldest_s": 0.0, "sent": 2},
        },
    }


def test_a_newer_router_may_say_more_than_we_know_and_an_older_one_less() -> None:
    assert Demand.from_json(wanted(of_tomorrow=1)).models == {"x": ModelDemand()}
    assert Demand.from_json(message(of_tomorrow=[])).seq == 1


def test_the_longest_time_to_live_is_taken() -> None:
    assert Demand.from_json(message(ttl_s=LONGEST_TTL)).ttl_s == LONGEST_TTL


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "[]",
        "{}",
        message(seq="x"),
        message(models=[]),
        message(ttl_s=0),
        message(ttl_s=-1),
        message(ttl_s=LONGEST_TTL + 1),
        message(ttl_s=float("nan")),
        message(ttl_s=float("inf")),
        wanted(waiting={"0": -1}),
        wanted(waiting={"high": 1}),
        wanted(oldest_s=-1),
        wanted(oldest_s=float("nan")),
        wanted(oldest_s=float("inf")),
        wanted(sent=-1),
        wanted(sent=1.5),
    ],
)
def test_what_would_be_no_demand_is_a_value_error(raw: str) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Demand.from_json(raw)
