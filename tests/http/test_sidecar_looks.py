"""A look at an engine's slots: what it shows, and that it is no use of the engine."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.harness import frames
from tests.http.boxes import Box, box, echo, fake

SLOT = {"id": 0, "n_ctx": 4096, "is_processing": True, "n_prompt_tokens_processed": 512}
TOLD = json.dumps([{**SLOT, "prompt": "a SECRET", "params": {"grammar": "a SECRET"}}])
MODELS = {
    "shows": fake("--slots", TOLD, slots=1),
    "Qwen/Qwen3-8B": fake("--slots", TOLD),
    "idle": fake("--slots", TOLD),
    "none": fake(),
    "hangs": fake("--slots", "hang"),
    "other": echo(),
    "slow": fake("--tokens", "20", "--tokens-per-second", "40", "--slots", TOLD, slots=1),
}
PAIR = 24 * 2**20  # bytes: two of them fit


@pytest.fixture(scope="module")
async def it(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Box]:
    async with box(tmp_path_factory.mktemp("sidecar"), MODELS) as it:
        yield it


async def look(it: Box, name: str) -> httpx.Response:
    return await it.http.get(f"/engines/{name}/slots")


def failed(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


@pytest.mark.parametrize("name", ["shows", "Qwen/Qwen3-8B"])
async def test_the_slots_of_an_engine_are_shown_without_a_word_of_what_is_said(
    it: Box, name: str
) -> None:
    await it.load(name)
    response = await look(it, name)
    assert (response.status_code, response.json()) == (200, [SLOT])
    assert response.headers["content-type"] == "application/json"
    assert "SECRET" not in response.text
    await it.unload(name)


async def test_a_look_starts_nothing(it: Box) -> None:
    before = await it.of("idle")
    response = await look(it, "idle")
    assert response.status_code == 409
    assert response.headers["x-swapyard-refused"] == "not_ready"
    assert await it.of("idle") == before
    assert not it.journal("idle", "started")


async def test_an_engine_whose_slots_are_all_taken_can_be_looked_at_and_so_can_one_that_drains(
    it: Box,
) -> None:
    await it.load("slow")
    response = await it.http.send(it.chat("slow"), stream=True)
    assert (await look(it, "slow")).json() == [SLOT]
    assert (await it.ask("slow")).headers["x-swapyard-refused"] == "busy"
    assert (await it.http.post("/models/slow/unload")).json()["phase"] == "switching"
    assert (await look(it, "slow")).json() == [SLOT]
    assert [frame.data async for frame in frames(response)][-1] == "[DONE]"
    await it.until("slow", "idle")


async def test_an_engine_without_such_a_path_is_501(it: Box) -> None:
    await it.load("none")
    assert failed(await look(it, "none")) == (501, "not_supported")
    await it.load("other")  # its answer is JSON, but not of slots
    assert failed(await look(it, "other")) == (501, "not_supported")
    await it.unload("none")
    await it.unload("other")


async def test_an_engine_that_does_not_say_is_not_waited_for_long(it: Box) -> None:
    await it.load("hangs")
    assert failed(await look(it, "hangs")) == (504, "engine_stalled")
    await it.unload("hangs")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "shows/slots"), ("GET", "shows/slots/0"), ("GET", "nobody/slots"), ("GET", "slots")],
)
async def test_nothing_else_can_be_looked_at(it: Box, method: str, path: str) -> None:
    response = await it.http.request(method, f"/engines/{path}")
    assert failed(response) == (404, "not_found")


async def test_a_look_with_a_body_is_refused(it: Box) -> None:
    await it.load("shows")
    response = await it.http.request("GET", "/engines/shows/slots", content=b"x")
    assert failed(response) == (413, "too_large")
    await it.unload("shows")


async def test_a_look_is_no_use_of_a_model_and_does_not_put_off_its_end(tmp_path: Any) -> None:
    models = {"seen": fake("--slots", TOLD, keep_alive="1h"), "used": fake("--slots", TOLD)}
    async with box(tmp_path, models) as it:
        await it.load("seen")
        await it.load("used")
        assert (await it.ask("used")).status_code == 200
        before = (await it.of("seen"))["expires_in_s"]
        for _ in range(3):
            assert (await look(it, "seen")).status_code == 200
        now = await it.status()
        assert now["model"] == "used", "the one that was used last"
        assert (await it.of("seen"))["expires_in_s"] <= before
