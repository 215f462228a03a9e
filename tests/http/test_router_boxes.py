"""Several boxes behind one router: which is asked, and what becomes of it when one is lost."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from shared.status import Phase
from tests.fakes.box import Exchange, FakeBox
from tests.harness import client, frames, router, until
from tests.http.yards import CHAT, FACTS, Json, answers, error_in, error_of, told

MOVED = 1.0  # seconds within which requests of a lost box are elsewhere


@dataclass
class Fleet:
    http: httpx.AsyncClient
    boxes: list[FakeBox]

    def ask(self, model: str = "warm") -> httpx.Request:
        return self.http.build_request("POST", CHAT, json={"model": model, "stream": True})

    async def stream(self, model: str = "warm") -> httpx.Response:
        return await self.http.send(self.ask(model), stream=True)

    async def live(self) -> list[bool]:
        fleet: Json = (await self.http.get("/api/fleet")).json()
        return [box["live"] for box in fleet["boxes"]]

    async def until_live(self, *live: bool) -> None:
        async def so() -> bool:
            return await self.live() == list(live)

        await until(so)

    async def until_ready(self, box: FakeBox, model: str) -> None:
        """The box says that the model is ready, and the router has heard it."""
        box.say(model, phase=Phase.READY)

        async def heard() -> bool:
            boxes = (await self.http.get("/api/fleet")).json()["boxes"]
            return any(
                known["id"] == model and known["phase"] == Phase.READY
                for its in boxes
                if its["box"] == box.status.box
                for known in its["models"]
            )

        await until(heard)

    async def asked_for(self, model: str) -> tuple[FakeBox, FakeBox]:
        """The box that is asked for it, and the other one."""
        one, two = self.boxes
        await until(lambda: one.waiting(model) or two.waiting(model))
        return (one, two) if one.waiting(model) else (two, one)


@asynccontextmanager
async def fleet(tmp: Path) -> AsyncIterator[Fleet]:
    async with FakeBox("box1", FACTS, answers) as one, FakeBox("box2", FACTS, answers) as two:
        settings = {
            "sidecars": [{"url": box.url} for box in (one, two)],
            "progress": {"interval": "100ms"},
            "box_grace": "60s",
            "models": {"cold": {"aliases": ["chilly"]}},
        }
        text = "\n".join(f"{key}: {json.dumps(value)}" for key, value in settings.items())
        async with router(tmp, text) as server, client(server.url, timeout=30) as http:
            it = Fleet(http, [one, two])
            await it.until_live(True, True)
            yield it


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path) as it:
        yield it


async def nothing(asked: Exchange) -> None:
    await asked.left.wait()


async def begins(asked: Exchange) -> None:
    await asked.events()
    await asked.chunk(b"data: 1\n\n")
    await asked.left.wait()


async def test_requests_that_wait_move_at_once_from_a_box_that_is_lost(it: Fleet) -> None:
    response = await it.stream("cold")
    lost, other = await it.asked_for("cold")
    async with lost.away():
        await until(lambda: other.waiting("cold") == 1, timeout=MOVED)
        other.say("cold", phase=Phase.READY)
        assert [frame.data for frame in await told(response)][-1] == "[DONE]"


async def test_what_a_box_had_not_begun_to_answer_is_sent_again_when_it_is_gone(it: Fleet) -> None:
    one, two = it.boxes
    one.engine = nothing
    one.say("warm", phase=Phase.READY)
    asking = asyncio.ensure_future(it.stream())
    await until(lambda: one.exchanges)
    async with one.away():
        await until(lambda: two.waiting("warm") == 1, timeout=MOVED)
        two.say("warm", phase=Phase.READY)
        assert [frame.data for frame in await told(await asking)][-1] == "[DONE]"
    assert len(two.exchanges) == 1


async def test_a_silent_box_is_given_up_and_what_it_had_not_begun_is_sent_elsewhere(
    it: Fleet,
) -> None:
    """None of its connections ends: without this, who is served there would wait for ever."""
    one, two = it.boxes
    await it.until_ready(one, "warm")
    one.engine = begins
    begun = await it.stream()
    heard = frames(begun)
    assert (await anext(heard)).data == "1"
    one.engine = nothing
    unanswered = asyncio.ensure_future(it.stream())
    await until(lambda: len(one.exchanges) == 2)
    one.mute = True
    await it.until_live(False, True)
    await until(lambda: two.waiting("warm") == 1, timeout=MOVED)
    assert [code_of(frame.data) async for frame in heard] == ["engine_died"]
    two.say("warm", phase=Phase.READY)
    assert [frame.data for frame in await told(await unanswered)][-1] == "[DONE]"
    for exchange in one.exchanges:
        await asyncio.wait_for(exchange.left.wait(), MOVED)


def code_of(data: str) -> str:
    return str(json.loads(data)["error"]["code"])


async def test_an_answer_flows_on_when_only_the_stream_of_events_ends(it: Fleet) -> None:
    one, _ = it.boxes
    go_on = asyncio.Event()

    async def slowly(asked: Exchange) -> None:
        await asked.events()
        await asked.chunk(b"data: 1\n\n")
        await go_on.wait()
        await asked.chunk(b"data: [DONE]\n\n")
        await asked.end()

    one.engine = slowly
    await it.until_ready(one, "warm")
    response = await it.stream()
    one.mute = True
    one.end_events()
    await it.until_live(False, True)
    go_on.set()
    assert [frame.data for frame in await told(response)] == ["1", "[DONE]"]


async def test_what_is_broken_off_twice_is_told_in_the_stream(it: Fleet) -> None:
    async def cut(asked: Exchange) -> None:
        asked.cut()

    response = await it.stream("cold")
    for box in it.boxes:
        box.engine = cut
        box.say("cold", phase=Phase.READY)
    assert (await error_in(response))["code"] == "engine_died"
    assert sum(len(box.exchanges) for box in it.boxes) == 2


# What is told of it.


async def test_it_is_explained_which_box_would_serve_a_model_and_why(it: Fleet) -> None:
    one, two = it.boxes
    one.say("cold", ready_in_s=2.0, disturbs_s=0.5)
    two.say("cold", ready_in_s=1.0, disturbs_s=0.0)

    async def told_of_both() -> Json | None:
        response = await it.http.get("/api/explain", params={"model": "chilly"})
        told: Json = response.json()
        expected = [(box["box"], box["expected_s"]) for box in told["boxes"]]
        return told if expected == [("box1", 2.5), ("box2", 1.0)] else None

    told = await until(told_of_both)
    assert (told["model"], told["waiting"], told["asked"]) == ("cold", 0, [])
    assert told["would_ask"] == ["box2"]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [("", 400, "model_required"), ("?model=nobody", 404, "model_not_found")],
)
async def test_nothing_is_explained_of_a_model_that_is_none(
    it: Fleet, query: str, status: int, code: str
) -> None:
    response = await it.http.get(f"/api/explain{query}")
    assert (response.status_code, error_of(response)["code"]) == (status, code)
