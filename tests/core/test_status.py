from __future__ import annotations

import json

import pytest

from shared.status import (
    BUSIEST_FIRST,
    Catalogue,
    LoadError,
    MemoryRow,
    ModelFacts,
    ModelStatus,
    Phase,
    PlanEntry,
    Status,
    Step,
    Switch,
)

WHOLE = Status(
    v=1,
    box="box1",
    boot="9f2c",
    seq=41,
    at=1795251430.12,
    phase=Phase.STARTING,
    step=Step.AWAITING_READINESS,
    model="qwen3-8b",
    switches=(
        Switch(
            "s-9f2c-7",
            "qwen3-8b",
            Phase.STARTING,
            Step.AWAITING_READINESS,
            3.1,
            ("llama3-8b",),
            0.42,
            "engine",
            4.2,
        ),
    ),
    models=(
        ModelStatus("qwen3-8b", Phase.STARTING, gpus=(0, 1), load_s=7.5, load_source="history"),
        ModelStatus("big", error=LoadError("load_failed", "crashed", "m", 1.5, 10.0, ("a", "b"))),
    ),
    memory=(
        MemoryRow("gpu", 10, 4, 6, 3, 1, 0, "GPU-1", "H200", 50),
        MemoryRow("host", 1, 1, 0, 0, 0),
    ),
    plan=(PlanEntry("start", "qwen3-8b", "3 waiting, oldest 4.2 s"),),
    problems=("big needs 9, has 8",),
)
SMALLEST = b'{"v": 1, "box": "b", "boot": "c", "seq": 0, "at": 1.5}'


def test_a_status_survives_the_wire_whole() -> None:
    assert Status.from_json(WHOLE.to_json()) == WHOLE
    assert Status.from_json(WHOLE.to_json().decode()) == WHOLE


def test_the_words_on_the_wire_are_the_documented_ones() -> None:
    said = json.loads(WHOLE.to_json())
    assert (said["phase"], said["step"]) == ("starting", "waiting for readiness")
    assert said["switches"][0]["from"] == ["llama3-8b"]
    assert "from_" not in said["switches"][0]
    assert {"v", "box", "boot", "seq", "at", "models", "memory", "plan", "problems"} <= set(said)


def test_a_status_is_one_line_so_that_it_is_one_event() -> None:
    assert b"\n" not in WHOLE.to_json()


def test_who_may_not_read_logs_is_shown_all_the_rest() -> None:
    said = json.loads(WHOLE.to_json())
    said["models"][1]["error"]["log_tail"] = []
    assert json.loads(WHOLE.without_logs().to_json()) == said


def test_a_newer_sidecar_may_say_more_than_we_know() -> None:
    said = json.loads(WHOLE.to_json())
    for part in (said, said["models"][0], said["switches"][0], said["memory"][0], said["plan"][0]):
        part["of_tomorrow"] = {"a": 1}
    assert Status.from_json(json.dumps(said)) == WHOLE


def test_an_older_sidecar_may_say_less() -> None:
    status = Status.from_json(SMALLEST)
    assert (status.phase, status.models, status.switches, status.plan) == (Phase.IDLE, (), (), ())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b'{"v": 1}',
        SMALLEST[:-1],
        SMALLEST.replace(b"0", b'"x"'),
        SMALLEST[:-1] + b', "phase": "flying"}',
        SMALLEST[:-1] + b', "models": [{"phase": "idle"}]}',
    ],
)
def test_what_is_no_status_is_a_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Status.from_json(raw)


def test_the_switch_to_a_model_is_found_by_where_it_leads() -> None:
    assert WHOLE.switch_to("qwen3-8b") is WHOLE.switches[0]
    assert WHOLE.switch_to("llama3-8b") is None


def test_every_phase_has_its_rank_in_the_phase_of_the_box() -> None:
    assert set(BUSIEST_FIRST) == set(Phase)
    assert len(BUSIEST_FIRST) == len(Phase)
    assert BUSIEST_FIRST[-1] is Phase.IDLE


def test_a_catalogue_survives_the_wire() -> None:
    facts = ModelFacts("x", "embedded", "served", 131072, 4, "x.gguf", 5, "Q4_K_M")
    catalogue = Catalogue("box1", "9f2c", (facts,))
    assert Catalogue.from_json(catalogue.to_json()) == catalogue


def test_what_is_no_catalogue_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="validation error"):
        Catalogue.from_json(b'{"box": "b"}')
