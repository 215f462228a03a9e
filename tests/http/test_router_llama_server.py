"""The face of llama-server's router: what its clients are told of models, loads and slots."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.status import LoadError, ModelFacts, Phase, Step, Switch
from tests.fakes.box import Exchange, FakeBox
from tests.harness import client, frames, router, until
from tests.http.yards import KEY, Yard, answers, error_of, yard

SLOT = {"id": 0, "n_ctx": 4096, "is_processing": True, "n_prompt_tokens_processed": 512}
PROBES = [
    "/models",
    "/models/sse",
    "/props",
    *(f"{path}?model={name}" for path in ("/props", "/slots") for name in ("warm", "cold", "no")),
    "/slots",
    "/v1/models",
    "/v1/models/cold",
    "/api/v1/models",
    "/api/tags",
    "/v1/props",
    "/version",
]
FAILURE = LoadError("load_failed", "crashed", "exited with code 1", at=1.0)
MODELS = {"cold": {"aliases": ["chilly"]}, "warm": {"aliases": ["cosy"]}}


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    async with yard(tmp_path_factory.mktemp("router"), models=MODELS) as it:
        yield it


@pytest.fixture
async def it(shared: Yard) -> Yard:
    shared.reset()
    await shared.ready()
    return shared


async def shows_slots(asked: Exchange) -> None:
    """With what no sidecar would send, to see that it does not go on."""
    await asked.json(200, [{**SLOT, "prompt": "a SECRET", "params": {"grammar": "a SECRET"}}])


async def nothing(asked: Exchange) -> None:
    await asked.left.wait()


async def cut_off(asked: Exchange) -> None:
    await asked.begin(200, content_length="100")
    await asked.write(b'[{"id":')
    asked.cut()


# `GET /models`.


async def model(it: Yard, name: str) -> dict[str, Any]:
    listed = (await it.http.get("/models")).json()
    assert listed["object"] == "list"
    return next(each for each in listed["data"] if each["id"] == name)


async def until_status(it: Yard, name: str, said: dict[str, Any]) -> None:
    async def so() -> bool:
        return bool((await model(it, name))["status"] == said)

    await until(so)


async def test_every_model_is_listed_as_llama_server_lists_it(it: Yard) -> None:
    await until_status(it, "warm", {"value": "loaded"})
    warm = await model(it, "warm")
    assert (warm["aliases"], warm["tags"], warm["object"]) == (["cosy"], [], "model")
    assert warm["meta"] == {"n_ctx": 4096, "n_ctx_train": 4096}
    assert (await model(it, "cold"))["status"] == {"value": "unloaded"}
    it.box.say("cold", phase=Phase.STARTING, step=Step.STARTING)
    await until_status(it, "cold", {"value": "loading"})
    it.box.say("cold", phase=Phase.IDLE, error=FAILURE)
    await until_status(it, "cold", {"value": "unloaded", "failed": True})
    listed = (await it.http.get("/v1/models/cold")).json()
    assert listed["status"] == {"value": "failed"}, "OpenAI's list says it in one word"


# `GET /props`.


async def test_a_client_sees_that_it_speaks_to_a_router(it: Yard) -> None:
    said = (await it.http.get("/props", params={"autoload": "false"})).json()
    assert (said["role"], said["models_autoload"]) == ("router", True)
    assert said["default_generation_settings"]["n_ctx"] == 0


async def test_the_properties_of_a_loaded_model_name_its_context(it: Yard) -> None:
    await until_status(it, "warm", {"value": "loaded"})
    said = (await it.http.get("/props", params={"model": "cosy", "autoload": "false"})).json()
    assert said["default_generation_settings"]["n_ctx"] == 4096
    assert (said["total_slots"], said["model_alias"]) == (50, "warm")


# What is refused, with the statuses of llama-server.


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/slots", "model_required"),
        ("/slots?model=", "model_required"),
        ("/slots?model=nobody", "model_not_found"),
        ("/slots?model=cold", "model_not_loaded"),
        ("/slots?model=chilly", "model_not_loaded"),
        ("/props?model=nobody", "model_not_found"),
        ("/props?model=cold", "model_not_loaded"),
    ],
)
async def test_what_cannot_be_asked_now_is_400(it: Yard, target: str, code: str) -> None:
    response = await it.http.get(target)
    assert (response.status_code, error_of(response)["code"]) == (400, code)
    assert not it.box.exchanges


@pytest.mark.parametrize(
    ("path", "status"),
    [("/api/v1/models", 404), ("/api/tags", 404), ("/version", 404), ("/v1/props", 405)],
)
async def test_other_probes_are_answered_at_once_that_there_is_nothing(
    it: Yard, path: str, status: int
) -> None:
    response = await it.http.get(path)
    assert response.status_code == status
    assert error_of(response)["type"] == "invalid_request_error"


# `GET /slots`.


async def test_the_slots_of_a_loaded_model_are_shown_without_a_word_of_what_is_said(
    it: Yard,
) -> None:
    it.box.engine = shows_slots
    response = await it.http.get("/slots", params={"model": "Qwen/Qwen3-8B"})
    assert (response.status_code, response.json()) == (200, [{**SLOT, "box": "box1"}])
    asked = await it.exchange()
    assert (asked.method, asked.target) == ("GET", "/engines/Qwen/Qwen3-8B/slots")
    assert asked.headers["authorization"] == f"Bearer {KEY}"


async def test_the_slots_of_a_model_that_finishes_what_it_has_are_shown(it: Yard) -> None:
    it.box.engine = shows_slots
    it.box.say("warm", phase=Phase.SWITCHING, step=Step.DRAINING)
    assert (await it.http.get("/slots?model=cosy")).json() == [{**SLOT, "box": "box1"}]
    it.box.say("warm", phase=Phase.STOPPING, step=Step.STOPPING)
    await until_status(it, "warm", {"value": "unloaded"})
    assert (await it.http.get("/slots?model=cosy")).status_code == 400


@pytest.mark.parametrize("engine", [nothing, cut_off])
async def test_a_box_that_does_not_say_is_not_waited_for_long(it: Yard, engine: Any) -> None:
    it.box.engine = engine
    response = await it.http.get("/slots?model=warm")
    error = error_of(response)
    assert (response.status_code, error["code"]) == (503, "box_unreachable")
    assert "box1" in error["message"]


@pytest.mark.parametrize("status", [404, 501])
async def test_an_engine_that_shows_no_slots_is_501(it: Yard, status: int) -> None:
    it.box.engine = lambda asked: asked.json(status, {"error": {"message": "no"}})
    response = await it.http.get("/slots?model=warm")
    assert (response.status_code, error_of(response)["code"]) == (501, "not_supported")


async def test_an_engine_that_has_just_gone_is_not_loaded(it: Yard) -> None:
    said = {"boot": "boot-1", "seq": 1}
    it.box.engine = lambda asked: asked.json(409, said, x_swapyard_refused="not_ready")
    response = await it.http.get("/slots?model=warm")
    assert (response.status_code, error_of(response)["code"]) == (400, "model_not_loaded")


async def test_the_slots_of_a_lost_box_are_not_asked_for(tmp_path: Path) -> None:
    async with yard(tmp_path) as it, it.box.away():
        await it.ready(503)
        response = await it.http.get("/slots?model=warm")
        assert (response.status_code, error_of(response)["code"]) == (400, "model_not_loaded")
        assert (await model(it, "warm"))["status"] == {"value": "unloaded"}


@asynccontextmanager
async def two_boxes(tmp: Path) -> AsyncIterator[tuple[FakeBox, FakeBox, httpx.AsyncClient]]:
    facts = [ModelFacts("warm", "command", "warm", 4096, slots=2)]
    async with FakeBox("box1", facts, answers) as one, FakeBox("box2", facts, answers) as two:
        text = f"sidecars: {json.dumps([{'url': box.url} for box in (one, two)])}"
        async with router(tmp, text) as server, client(server.url) as http:
            for box in (one, two):
                box.say("warm", phase=Phase.READY)

            async def both() -> bool:
                return (await http.get("/props?model=warm")).json().get("total_slots") == 4

            await until(both)
            yield one, two, http


async def test_the_slots_of_all_boxes_that_hold_a_model_are_shown(tmp_path: Path) -> None:
    async with two_boxes(tmp_path) as (one, two, http):
        one.engine = two.engine = shows_slots
        both = [{**SLOT, "box": "box1"}, {**SLOT, "box": "box2"}]
        assert (await http.get("/slots?model=warm")).json() == both
        one.engine = cut_off
        assert (await http.get("/slots?model=warm")).json() == both[1:]


async def test_a_router_that_has_not_heard_its_box_says_so_at_once(tmp_path: Path) -> None:
    config = "sidecars: [{url: 'http://127.0.0.1:1'}]"
    async with router(tmp_path, config) as server, client(server.url, timeout=2) as http:
        assert (await http.get("/models")).json() == {"object": "list", "data": []}
        assert (await http.get("/props")).json()["role"] == "router"
        response = await http.get("/slots?model=warm")
        assert (response.status_code, error_of(response)["code"]) == (503, "box_unreachable")
        async with http.stream("GET", "/models/sse") as events:
            assert (await anext(events.aiter_bytes())).startswith(b": ")


# `GET /models/sse`.


@asynccontextmanager
async def watching(it: Yard) -> AsyncIterator[AsyncIterator[tuple[str, dict[str, Any]]]]:
    async with it.http.stream("GET", "/models/sse") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        yield changes(response)


async def changes(response: httpx.Response) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    async for frame in frames(response):
        said = json.loads(frame.data)
        assert (frame.event, said["event"]) == ("message", "model_status")
        yield said["model"], said["data"]


async def test_who_watches_is_told_how_things_are_and_then_each_change(it: Yard) -> None:
    await until_status(it, "warm", {"value": "loaded"})
    await until_status(it, "cold", {"value": "unloaded"})
    async with watching(it) as told:
        assert [await anext(told) for _ in range(3)] == [
            ("Qwen/Qwen3-8B", {"status": "loaded"}),
            ("cold", {"status": "unloaded"}),
            ("warm", {"status": "loaded"}),
        ]
        it.box.say("cold", phase=Phase.STARTING, step=Step.STARTING)
        assert await anext(told) == ("cold", {"status": "loading"})
        it.box.say("cold", progress=0.5, progress_source="engine")
        progress = {"stages": ["text_model"], "current": "text_model", "value": 0.5}
        assert await anext(told) == ("cold", {"status": "loading", "progress": progress})
        it.box.say("cold", phase=Phase.IDLE, progress=None, progress_source=None, error=FAILURE)
        assert await anext(told) == ("cold", {"status": "unloaded", "failed": True})
        it.box.say("cold", phase=Phase.READY, error=None)
        assert await anext(told) == ("cold", {"status": "loaded"})


async def test_a_model_is_loading_from_the_moment_that_others_leave_for_it(it: Yard) -> None:
    async with watching(it) as told:
        for _ in range(3):
            await anext(told)
        leaves = Switch("s-1", "cold", Phase.STOPPING, Step.STOPPING, 0.1, ("warm",))
        it.box.status = replace(it.box.status, switches=(leaves,))
        it.box.say("warm", phase=Phase.STOPPING, step=Step.STOPPING)
        assert await anext(told) == ("cold", {"status": "loading"})
        assert await anext(told) == ("warm", {"status": "unloaded"})
        it.box.status = replace(it.box.status, switches=())
        it.box.say("cold", phase=Phase.READY)
        assert await anext(told) == ("cold", {"status": "loaded"})


async def test_a_load_is_told_again_while_nothing_happens(it: Yard) -> None:
    it.box.say("cold", phase=Phase.STARTING, step=Step.STARTING)
    await until_status(it, "cold", {"value": "loading"})
    async with watching(it) as told:
        seen = [await anext(told) for _ in range(4)]
    assert seen.count(("cold", {"status": "loading"})) == 2


async def test_a_lost_box_has_nothing_loaded(tmp_path: Path) -> None:
    async with yard(tmp_path) as it:
        await until_status(it, "warm", {"value": "loaded"})
        async with watching(it) as told:
            assert ("warm", {"status": "loaded"}) in [await anext(told) for _ in range(3)]
            async with it.box.away():
                gone = [await anext(told) for _ in range(2)]
            assert gone == [(name, {"status": "unloaded"}) for name in ("Qwen/Qwen3-8B", "warm")]
            back = [await anext(told) for _ in range(2)]
            assert back == [(name, {"status": "loaded"}) for name in ("Qwen/Qwen3-8B", "warm")]


async def test_who_watches_is_left_when_the_router_ends(tmp_path: Path) -> None:
    async with yard(tmp_path) as it:
        async with watching(it) as told:
            await anext(told)
        async with watching(it) as told:
            await anext(told)
            it.server.program.terminate()
            assert len([said async for said in told]) == 2
        assert await it.server.program.wait() == 0
        assert "Traceback" not in it.server.program.log()


# All of them.


async def test_no_probe_ever_wants_a_model_or_asks_an_engine_for_more_than_its_slots(
    it: Yard,
) -> None:
    it.box.engine = shows_slots
    asked_before = len(it.box.demands)
    for target in PROBES:
        async with it.http.stream("GET", target) as response:
            await anext(response.aiter_bytes())
    await until(lambda: len(it.box.demands) > asked_before + 1)  # two more, a second apart
    for _, demand in it.box.demands[asked_before:]:
        assert not any(wanted["waiting"] for wanted in demand["models"].values())
    assert {asked.target for asked in it.box.exchanges} == {"/engines/warm/slots"}
