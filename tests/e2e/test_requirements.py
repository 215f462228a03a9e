"""The numbered requirements, each shown with the real pair and a real llama.cpp engine."""

import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.pair import Pair, ask, chat, embedded, fake, make_model, pair
from tests.harness import client, frames


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models"), "tiny")


@pytest.fixture
async def switching_pair(tmp_path: Path, tiny: Path) -> AsyncIterator[Pair]:
    """Two real models that do not fit together, and frames ten times a second."""
    models = (
        embedded("first", tiny) + embedded("second", tiny) + fake("slow", "--load-seconds", "1")
    )
    yaml = "progress: {interval: 100ms}"
    async with pair(tmp_path, models, router_yaml=yaml) as both:
        yield both


async def test_r0_1_a_waiting_request_hears_at_once_and_at_intervals_what_goes_on(
    switching_pair: Pair,
) -> None:
    body = chat("slow")
    async with switching_pair.http.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        told = [f async for f in frames(response) if f.event == "model_switching"]
    gaps = [later.at - earlier.at for earlier, later in itertools.pairwise(told)]
    assert len(told) >= 8  # a second of loading, at ten a second
    assert max(gaps) < 1.0


async def test_r0_2_each_event_carries_the_sidecars_real_phase_and_a_readable_step(
    switching_pair: Pair,
) -> None:
    await ask(switching_pair.http, chat("first"))
    seen: set[tuple[str, str | None]] = set()
    async with (
        client(switching_pair.sidecar.url) as http,
        http.stream("GET", "/models/events") as events,
    ):
        told = await ask(switching_pair.http, chat("slow"))
        async for frame in frames(events):
            seen |= phases_shown(frame.data, "slow")
            if ("ready", None) in seen:
                break
    assert told.phases == ["idle", "stopping", "starting", "ready"]
    steps = list(dict.fromkeys(told.steps[1:]))
    assert steps == ["stopping current model", "starting new model", "waiting for readiness"]
    said = {(frame["phase"], frame["step"]) for frame in told.switching[1:-1]}
    assert said <= seen  # nothing was told that the sidecar did not report
    assert told.switching[1]["from"] == ["first"]


def phases_shown(status_text: str, model: str) -> set[tuple[str, str | None]]:
    """What one Status says of the way to `model`."""
    status = json.loads(status_text)
    switches = {(s["phase"], s["step"]) for s in status["switches"] if s["to"] == model}
    own = {(m["phase"], m["step"]) for m in status["models"] if m["id"] == model}
    return switches | own


async def test_r0_3_the_answer_streams_on_the_same_response_once_the_model_is_ready(
    switching_pair: Pair,
) -> None:
    await ask(switching_pair.http, chat("first"))
    told = await ask(switching_pair.http, chat("second"))
    assert told.status == 200
    assert told.text.startswith("My name is tiny")
    assert told.chunks[0]["model"] == "second"
    assert told.done
    last = told.switching[-1]
    assert (last["phase"], last["box"], last["reason"]) == ("ready", "box1", "loaded")
    assert last["waited_ms"] > 0
    events = [event for event, _ in told.frames]
    assert "model_switching" not in events[events.index("message") :]


async def test_r0_4_models_status_shows_the_phase(switching_pair: Pair) -> None:
    before = await switching_pair.status()
    assert before["phase"] == "idle"
    async with client(switching_pair.sidecar.url) as http:
        answer = await http.post("/models/slow/load")
        assert (answer.status_code, answer.json()["phase"]) == (202, "starting")
        async with http.stream("GET", "/models/events") as events:
            async for frame in frames(events):
                if ("ready", None) in phases_shown(frame.data, "slow"):
                    break
    after = await switching_pair.status()
    assert (after["phase"], after["model"]) == ("ready", "slow")


async def test_r0_5_the_router_finds_the_model_and_has_it_switched_in_by_itself(
    switching_pair: Pair,
) -> None:
    answer = await switching_pair.http.post(
        "/v1/chat/completions", json=chat("first", stream=False)
    )
    assert answer.status_code == 200
    assert answer.json()["model"] == "first"
    assert await switching_pair.loaded("first")
    await switching_pair.http.post("/v1/chat/completions", json=chat("second", stream=False))
    assert await switching_pair.loaded("second")
    assert await switching_pair.phase("first") == "idle"
