"""F57: words from outside that would be lines of an event stream. One event in is one event out,
wherever the words come from: an engine's log, its errors, its tokens, a client's names.
"""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.misbehaviour import EVIL
from tests.faults.streams import CHAT, Got, Yard, asking, engine, got, yard
from tests.harness import client

LOGGED = EVIL.replace("\0", "")  # no argument of a program holds one
DIALECTS = ["events", "reasoning", "events+reasoning", "status", "comments"]
LINE = re.compile(rb"(data: (\{.*\}|\[DONE\])|event: (model_switching|status)|id: \w+:\d+|: .*)?")


@pytest.fixture(scope="module")
async def it(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    """Each dialect has a failing model of its own: one that has failed before may have to rest."""
    folder = tmp_path_factory.mktemp("injection")
    failing = "".join(
        engine(folder, f"fails-{number}", "--fail-with", LOGGED)
        for number in range(len(DIALECTS) + 1)
    )
    slow = engine(folder, "slow", "--first-token-seconds", "0.2")
    async with yard(folder, failing + slow, "slow") as it:
        yield it


def events_of(answer: Got) -> list[dict[str, Any]]:
    """Every line of the stream is one that the router says, and every event holds an object."""
    lines = re.split(rb"\r\n|\r|\n", answer.body)
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    said = [json.loads(event.data) for event in answer.events if event.data != "[DONE]"]
    assert not [event for event in said if "injected" in event]
    return said


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_f57_an_engines_last_words_add_nothing_to_a_stream(it: Yard, dialect: str) -> None:
    model = f"fails-{DIALECTS.index(dialect)}"
    answer = await got(it.http, asking(model), dialect)
    *_, last = events_of(answer)
    assert last["error"]["code"] == "load_failed"
    words = "\n".join(last["error"]["log_tail"])
    assert '{"injected": 1}' in words  # told, and as text


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_f57_an_engines_error_adds_nothing_to_a_stream(it: Yard, dialect: str) -> None:
    answer = await got(it.http, asking("slow", bad_sse="evil-error"), dialect)
    *_, last = events_of(answer)
    assert (last["error"]["message"], last["error"]["code"]) == (EVIL, EVIL)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_f57_what_a_model_says_adds_nothing_to_a_stream(it: Yard, dialect: str) -> None:
    answer = await got(it.http, asking("slow", bad_sse="evil-tokens"), dialect)
    said = events_of(answer)
    deltas = [choice["delta"] for event in said for choice in event.get("choices", [])]
    text = "".join(delta.get("content", "") for delta in deltas)
    assert EVIL in (said[-1]["content"] if dialect == "status" else text)


async def test_f57_an_engines_last_words_add_nothing_to_the_events_of_a_box(it: Yard) -> None:
    model = f"fails-{len(DIALECTS)}"
    async with (
        client(it.pair.sidecar.url) as http,
        http.stream("GET", "/models/events") as response,
    ):
        await got(it.http, asking(model))
        answer = Got(200, response.headers, b"", whole=True)
        async for chunk in response.aiter_raw():
            answer = replace(answer, body=answer.body + chunk)
            if failed(answer, model):
                break
    assert {event.event for event in answer.events} == {"status"}
    events_of(answer)


def failed(answer: Got, model: str) -> bool:
    """The newest event says that the model has failed."""
    models = json.loads(answer.events[-1].data)["models"] if answer.events else []
    return any(found["error"] for found in models if found["id"] == model)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_f57_a_clients_words_are_text_in_its_error(it: Yard, dialect: str) -> None:
    headers = {"x-swapyard-progress": dialect}
    response = await it.http.post(CHAT, json=asking(EVIL), headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
    assert not any(EVIL[:4] in value for value in response.headers.values())
