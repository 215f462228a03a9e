"""The dialects for dashboards and for clients that show reasoning, with real llama.cpp engines."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.pair import Pair, Told, ask, chat, embedded, fake, make_model, pair
from tests.harness import client, frames, until

STATUS = {"X-Swapyard-Progress": "status"}
REASONING = {"X-Swapyard-Progress": "reasoning"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models"), "tiny")


@pytest.fixture
async def both(tmp_path: Path, tiny: Path) -> AsyncIterator[Pair]:
    models = (
        embedded("first", tiny)
        + embedded("second", tiny)
        + fake("slow", "--load-seconds", "0.5", "--tokens", "4")
        + fake("broken", "--fail-with", "error: invalid argument: --foo")
        + fake("dying", "--tokens", "8", "--crash-at", "token:3")
        + fake("stuck", "--load-seconds", "60", more=", start_timeout: 300ms")
        + fake("endless", "--load-seconds", "60")
    )
    yaml = "progress: {interval: 100ms}\nmodels: {second: {progress: {dialect: reasoning}}}"
    async with pair(tmp_path, models, router_yaml=yaml) as made:
        yield made


def events(told: Told) -> list[dict[str, Any]]:
    return [data for _, data in told.frames if isinstance(data, dict)]


def words(told: Told) -> list[str]:
    """The status of each event, without repetitions."""
    said = [event["status"] for event in events(told)]
    return [word for n, word in enumerate(said) if n == 0 or word != said[n - 1]]


# A dashboard.


async def test_r1_1_a_cold_request_is_routed_loaded_generated_and_done(both: Pair) -> None:
    told = await ask(both.http, chat("first"), STATUS)
    assert words(told) == ["routing", "loading", "generating", "done"]
    assert all({"message", "timestamp"} <= event.keys() for event in events(told))
    pieces = [event["delta"] for event in events(told) if "delta" in event]
    done = events(told)[-1]
    assert len(pieces) > 3
    assert done["content"] == "".join(pieces)
    assert done["content"].startswith("My name is tiny")
    assert (done["model"], done["backend"]) == ("first", "box1")
    assert done["usage"]["completion_tokens"] >= len(pieces)
    assert told.done  # [DONE] is last


async def test_r1_1_old_completions_have_the_dialect_too(both: Pair) -> None:
    body = {"model": "first", "prompt": "Hi", "stream": True}
    async with both.http.stream("POST", "/v1/completions", json=body, headers=STATUS) as response:
        data = [frame.data async for frame in frames(response)]
    assert '"routing"' in data[0]
    assert '"done"' in data[-2]
    assert data[-1] == "[DONE]"


async def test_r1_2_without_a_stream_the_dialect_changes_nothing(both: Pair) -> None:
    answers = []
    for headers in ({}, STATUS):
        body = chat("first", stream=False) | {"temperature": 0}
        answer = await both.http.post("/v1/chat/completions", json=body, headers=headers)
        assert answer.headers["content-type"].startswith("application/json")
        answers.append(answer.json()["choices"])
    assert answers[0] == answers[1]


async def test_r1_3_a_second_request_to_a_warm_model_skips_loading(both: Pair) -> None:
    await ask(both.http, chat("first"), STATUS)
    told = await ask(both.http, chat("first"), STATUS)
    assert words(told) == ["routing", "generating", "done"]


async def test_r1_4_loading_has_an_estimate_in_whole_seconds_once_a_load_was_seen(
    both: Pair,
) -> None:
    for model in ("slow", "first", "slow"):
        told = await ask(both.http, chat(model), STATUS)
    estimates = [e["estimated_time"] for e in events(told) if e["status"] == "loading"]
    known = [seconds for seconds in estimates if seconds is not None]
    assert known[0] == 1
    assert known == sorted(known, reverse=True)


async def test_r1_4_a_first_load_is_estimated_from_the_size_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.touch()
    os.truncate(file, 2_000_000_000)  # bytes, of which none takes room on the disk
    models = fake("sized", "--load-seconds", "0.3", more=f", path: {file}")
    async with pair(tmp_path, models) as both:
        told = await ask(both.http, chat("sized"))
        again = await ask(both.http, chat("sized"), STATUS)
    (first, *_) = [frame for frame in told.switching if frame["eta_source"] is not None]
    assert (first["eta_source"], round(first["eta_s"])) == ("size", 5)
    assert words(again) == ["routing", "generating", "done"]


async def test_r1_5_what_fails_is_an_error_and_never_done(both: Pair) -> None:
    for model, code in (("broken", "load_failed"), ("dying", "engine_died")):
        told = await ask(both.http, chat(model), STATUS)
        last = events(told)[-1]
        assert (last["status"], last["code"]) == ("error", code)
        assert "done" not in words(told)
        assert not told.done


async def test_r1_5_what_takes_too_long_is_a_timeout(both: Pair) -> None:
    told = await ask(both.http, chat("stuck"), STATUS)
    last = events(told)[-1]
    assert (last["status"], last["code"]) == ("timeout", "load_failed")
    assert "not ready within" in last["message"]


async def test_r1_5_a_back_end_that_is_down_is_an_error(tmp_path: Path) -> None:
    box, yaml = "orphan_grace: 100ms", "box_grace: 100ms"
    async with pair(tmp_path, fake("x"), box=box, router_yaml=yaml) as both:
        both.sidecar.program.kill()
        told = await ask(both.http, chat("x"), STATUS)
    last = events(told)[-1]
    assert words(told)[0] == "routing"
    assert (last["status"], last["code"]) == ("error", "box_unreachable")


async def test_r1_5_an_invalid_request_is_an_http_error_and_no_stream(both: Pair) -> None:
    for body, status in ((chat("nobody"), 404), ({"model": 7, "stream": True}, 400)):
        answer = await both.http.post("/v1/chat/completions", json=body, headers=STATUS)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/json"


async def test_r1_1_a_piece_reaches_the_dashboard_while_the_engine_still_makes_others(
    tmp_path: Path,
) -> None:
    models = fake("x", "--tokens", "1000", "--tokens-per-second", "2")
    async with pair(tmp_path, models) as both:

        async def in_flight() -> int:
            return int((await both.status())["models"][0]["in_flight"])

        async with both.http.stream(
            "POST", "/v1/chat/completions", json=chat("x"), headers=STATUS
        ) as response:
            said = frames(response)
            async for frame in said:
                if '"delta"' in frame.data:
                    break
            await until(in_flight)

        async def none_is_left() -> bool:
            return await in_flight() == 0

        await until(none_is_left)


# Loading told inside the answer.


def reasoning(told: Told) -> str:
    deltas = [choice["delta"] for chunk in told.chunks for choice in chunk["choices"]]
    return "".join(delta.get("reasoning_content") or "" for delta in deltas)


async def test_r2_1_a_model_has_its_own_switch_and_the_others_the_global_one(both: Pair) -> None:
    own = await ask(both.http, chat("second"))
    assert "second on box1: starting new model" in reasoning(own)
    assert own.switching == []
    inherited = await ask(both.http, chat("slow"))
    assert reasoning(inherited) == ""
    assert inherited.switching


async def test_r2_1_reasoning_tells_which_model_what_goes_on_and_how_long_it_took(
    both: Pair,
) -> None:
    await ask(both.http, chat("first"))
    told = await ask(both.http, chat("slow"), REASONING)
    lines = reasoning(told).splitlines()
    assert any("slow on box1: stopping current model (first)" in line for line in lines)
    assert lines[-1].startswith("slow on box1 is ready after ")
    assert told.text == "tok0 tok1 tok2 tok3"
    assert told.done


async def test_r2_1_events_and_reasoning_come_in_the_same_frames(both: Pair) -> None:
    told = await ask(both.http, chat("slow"), {"X-Swapyard-Progress": "events+reasoning"})
    read = [event for event, data in told.frames if "reasoning_content" in str(data)]
    assert told.phases[-2:] == ["starting", "ready"]
    assert set(read) == {"model_switching"}
    assert len(read) > 1


async def test_r2_2_only_streams_and_only_those_that_wait_are_told(both: Pair) -> None:
    whole = await both.http.post("/v1/chat/completions", json=chat("second", stream=False))
    assert "reasoning" not in whole.text
    warm = await ask(both.http, chat("second"))
    assert reasoning(warm) == ""
    assert warm.text.startswith("My name is tiny")


async def test_r2_2_a_client_that_leaves_stops_it(both: Pair) -> None:
    async def waiting() -> int:
        return sum(wait["waiting"] for wait in (await both.http.get("/api/fleet")).json()["line"])

    async with both.http.stream(
        "POST", "/v1/chat/completions", json=chat("endless"), headers=REASONING
    ) as response:
        said = frames(response)
        assert "endless" in (await anext(said)).data  # nothing is held back in a buffer
        assert await waiting() == 1

    async def nobody_waits() -> bool:
        return await waiting() == 0

    await until(nobody_waits)


async def test_r2_3_a_load_that_fails_is_an_error_that_clients_raise_on(both: Pair) -> None:
    told = await ask(both.http, chat("broken"), REASONING)
    assert told.error is not None
    assert told.error["code"] == "load_failed"
    assert not told.done
    assert "ready" not in reasoning(told).lower()
    for dialect in ("reasoning", "events+reasoning", "status"):
        openais = openai.AsyncOpenAI(
            base_url=f"{both.router.url}/v1",
            api_key="any",
            max_retries=0,
            http_client=httpx.AsyncClient(trust_env=False),
            default_headers={"X-Swapyard-Progress": dialect},
        )
        async with openais:
            stream = await openais.chat.completions.create(**chat("broken"))
            with pytest.raises(openai.APIError, match="invalid argument: --foo"):
                async for _ in stream:
                    pass


async def test_an_unknown_dialect_is_refused(both: Pair) -> None:
    async with client(both.router.url) as http:
        answer = await http.post(
            "/v1/chat/completions", json=chat("first"), headers={"X-Swapyard-Progress": "loud"}
        )
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_progress")
