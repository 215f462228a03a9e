from __future__ import annotations

import json
from typing import Any

import pytest

from router.llama_server import (
    HEARTBEAT,
    REPEAT,
    Feed,
    Looked,
    asked_for,
    item,
    props,
    props_of,
    slots_of,
)
from router.models import Load
from router.view import BoxView
from shared.errors import InvalidRequest, NotSupported, Unavailable
from shared.sse import Decoder
from shared.status import Catalogue, ModelFacts, ModelStatus
from tests.core.said import idle, load_error, ready, starting, status

UNLOADED, LOADED, FAILED = Load("unloaded"), Load("loaded"), Load("failed")


def box(key: str, known: ModelStatus, context: int | None = 8192) -> BoxView:
    seen = BoxView(key, name=key)
    facts = ModelFacts(known.id, "embedded", known.id, context_length=context, slots=known.slots)
    seen.know(Catalogue(key, "b1", (facts,)))
    seen.hear(status(known, box=key), 0.0)
    return seen


# `GET /models`.


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (idle("x"), {"value": "unloaded"}),
        (starting("x", progress=0.5), {"value": "loading"}),
        (ready("x"), {"value": "loaded"}),
        (idle("x", load_error(1.0)), {"value": "unloaded", "failed": True}),
    ],
)
def test_a_model_has_the_status_that_llama_servers_clients_know(
    known: ModelStatus, said: dict[str, Any]
) -> None:
    assert item("x", [box("a", known)], [], 7)["status"] == said


def test_a_model_is_listed_loaded_or_not() -> None:
    assert item("x", [box("a", idle("x"))], ["chat"], 7) == {
        "id": "x",
        "aliases": ["chat"],
        "tags": [],
        "object": "model",
        "owned_by": "swapyard",
        "created": 7,
        "status": {"value": "unloaded"},
        "context_length": 8192,
        "max_model_len": 8192,
    }


def test_a_loaded_model_tells_its_context_as_an_engine_would() -> None:
    assert item("x", [box("a", ready("x"))], [], 7)["meta"] == {"n_ctx": 8192, "n_ctx_train": 8192}
    assert "meta" not in item("x", [box("a", ready("x"), context=None)], [], 7)


# `GET /props`.


def test_a_router_is_known_by_its_role_and_fills_what_clients_read_unasked() -> None:
    said = props("swapyard-1.2")
    assert (said["role"], said["models_autoload"], said["max_instances"]) == ("router", True, 0)
    assert said["default_generation_settings"] == {"params": None, "n_ctx": 0}
    assert said["build_info"] == "swapyard-1.2"
    # What llama-server's own router says, b10359.
    assert said.keys() == {
        "role",
        "max_instances",
        "models_autoload",
        "model_alias",
        "model_path",
        "default_generation_settings",
        "ui_settings",
        "build_info",
        "cors_proxy_enabled",
    }


def test_the_properties_of_a_loaded_model_are_what_is_known_of_it() -> None:
    boxes = [box("a", ready("x", 4)), box("b", ready("x", 2), 4096), box("c", idle("x"))]
    said = props_of("x", boxes, "swapyard-1.2")
    assert said["default_generation_settings"] == {"params": None, "n_ctx": 4096}
    assert (said["total_slots"], said["model_alias"]) == (6, "x")
    assert "role" not in said
    unknown = props_of("x", [box("a", ready("x"), None)], "b")
    assert unknown["default_generation_settings"]["n_ctx"] == 0


@pytest.mark.parametrize("known", [idle("x"), starting("x"), idle("x", load_error(1.0))])
def test_a_model_that_is_not_loaded_has_no_properties(known: ModelStatus) -> None:
    with pytest.raises(InvalidRequest) as caught:
        props_of("x", [box("a", known)], "b")
    assert (caught.value.status, caught.value.code) == (400, "model_not_loaded")


@pytest.mark.parametrize("name", [None, ""])
def test_a_query_must_name_a_model(name: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        asked_for(name)
    assert (caught.value.code, caught.value.param) == ("model_required", "model")
    assert asked_for("x") == "x"


# `GET /models/sse`.


def told(frames: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Each is one line `data:` and a blank one: there are readers that know nothing else."""
    for record in frames.split(b"\n\n")[:-1]:
        assert record.startswith(b"data: ")
        assert b"\n" not in record
    said = [json.loads(event.data) for event in Decoder().feed(frames)]
    assert all(each.keys() == {"model", "event", "data"} for each in said)
    assert {each["event"] for each in said} <= {"model_status"}
    return [(each["model"], each["data"]) for each in said]


def test_a_reader_is_told_at_once_how_every_model_is() -> None:
    loads = {"d": FAILED, "b": Load("loading"), "c": LOADED, "a": UNLOADED}
    assert told(Feed().news(loads, 0.0)) == [
        ("a", {"status": "unloaded"}),
        ("b", {"status": "loading"}),
        ("c", {"status": "loaded"}),
        ("d", {"status": "unloaded", "failed": True}),
    ]


def test_progress_is_told_as_of_the_only_stage_and_never_made_up() -> None:
    feed = Feed()
    assert told(feed.news({"a": Load("loading")}, 0.0)) == [("a", {"status": "loading"})]
    progress = {"stages": ["text_model"], "current": "text_model", "value": 0.25}
    assert told(feed.news({"a": Load("loading", 0.25)}, 1.0)) == [
        ("a", {"status": "loading", "progress": progress})
    ]


def test_only_what_changes_is_told() -> None:
    feed = Feed()
    feed.news({"a": UNLOADED, "b": LOADED}, 0.0)
    assert feed.news({"a": UNLOADED, "b": LOADED}, 1.0) == b""
    assert told(feed.news({"a": LOADED, "b": LOADED}, 2.0)) == [("a", {"status": "loaded"})]
    assert told(feed.news({"a": LOADED, "b": FAILED}, 3.0)) == [
        ("b", {"status": "unloaded", "failed": True})
    ]


def test_a_slow_reader_is_told_the_newest_and_no_backlog() -> None:
    feed, slow = Feed(), Feed()
    steps = [{"a": Load("loading", far / 10)} for far in range(10)] + [{"a": LOADED}]
    first = slow.news(steps[0], 0.0)
    every = b"".join(feed.news(loads, 0.1 * n) for n, loads in enumerate(steps))
    assert len(told(every)) == 11
    assert len(told(first + slow.news(steps[-1], 1.0))) == 2


def test_a_load_is_told_again_before_its_readers_take_it_for_dead() -> None:
    feed, loads = Feed(), {"a": Load("loading", 0.5), "b": LOADED}
    feed.news(loads, 0.0)
    assert feed.deadline == REPEAT
    assert feed.news(loads, REPEAT - 0.1) == b""
    assert [model for model, _ in told(feed.news(loads, REPEAT))] == ["a"]
    assert feed.deadline == 2 * REPEAT


def test_a_load_without_news_is_not_forgotten_beside_one_with_much_of_it() -> None:
    feed = Feed()
    feed.news({"quick": Load("loading", 0.0), "stuck": Load("loading")}, 0.0)
    for n in range(1, 5):
        feed.news({"quick": Load("loading", n / 10), "stuck": Load("loading")}, float(n))
    assert feed.deadline == REPEAT
    said = told(feed.news({"quick": Load("loading", 0.5), "stuck": Load("loading")}, REPEAT))
    assert [model for model, _ in said] == ["quick", "stuck"]


def test_a_silent_stream_beats_its_heart() -> None:
    feed = Feed()
    feed.news({"a": LOADED}, 0.0)
    assert feed.deadline == REPEAT
    assert feed.news({"a": LOADED}, REPEAT) == HEARTBEAT
    assert feed.news({"a": LOADED}, REPEAT) == b""
    assert feed.deadline == 2 * REPEAT
    assert Feed().news({}, 0.0) == HEARTBEAT, "there is something to read at once"
    assert Decoder().feed(HEARTBEAT) == []


def test_a_model_that_no_box_has_any_more_is_unloaded_once() -> None:
    feed = Feed()
    feed.news({"a": Load("loading"), "b": LOADED}, 0.0)
    assert told(feed.news({"b": LOADED}, 1.0)) == [("a", {"status": "unloaded"})]
    assert feed.news({"b": LOADED}, 2.0) == b""
    assert told(feed.news({"a": LOADED, "b": LOADED}, 3.0)) == [("a", {"status": "loaded"})]


# `GET /slots`.


SLOT = {"id": 0, "is_processing": True, "n_prompt_tokens_processed": 512}
BODY = json.dumps([{**SLOT, "prompt": "SECRET"}]).encode()


def test_the_slots_of_every_box_are_shown_each_with_its_box() -> None:
    looked = [Looked("a", 200, BODY), Looked("b", 200, BODY), Looked("c", 200, b"[]")]
    assert slots_of("x", looked) == [{**SLOT, "box": "a"}, {**SLOT, "box": "b"}]
    assert slots_of("x", [Looked("a", 200, b"[]")]) == []


def test_a_box_that_does_not_answer_does_not_hide_the_others() -> None:
    looked = [Looked("a", None), Looked("b", 200, BODY), Looked("c", 409), Looked("d", 501)]
    assert slots_of("x", looked) == [{**SLOT, "box": "b"}]


@pytest.mark.parametrize("looked", [[], [Looked("a", 409)], [Looked("a", 409), Looked("b", 409)]])
def test_the_slots_of_a_model_that_is_not_loaded_are_400(looked: list[Looked]) -> None:
    with pytest.raises(InvalidRequest, match="x is not loaded") as caught:
        slots_of("x", looked)
    assert (caught.value.status, caught.value.code) == (400, "model_not_loaded")


@pytest.mark.parametrize("status", [404, 501])
def test_an_engine_that_does_not_show_its_slots_is_501(status: int) -> None:
    with pytest.raises(NotSupported):
        slots_of("x", [Looked("a", status), Looked("b", 409), Looked("c", None)])


@pytest.mark.parametrize(
    "looked", [Looked("a", None), Looked("a", 502), Looked("a", 504), Looked("a", 200, b"{}")]
)
def test_a_box_that_says_nothing_of_use_is_503(looked: Looked) -> None:
    with pytest.raises(Unavailable, match="No answer about x from a, b") as caught:
        slots_of("x", [looked, Looked("b", 409)])
    assert (caught.value.status, caught.value.code) == (503, "box_unreachable")
