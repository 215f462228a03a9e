"""What tests of a router share: one router process, and a box that does what the test says."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from shared.status import ModelFacts, Phase
from tests.fakes.box import Exchange, FakeBox
from tests.harness import Frame, Server, client, frames, router, until

CHAT = "/v1/chat/completions"
KEY = "the-key-of-this-router"
FACTS = [
    ModelFacts("warm", "command", "warm", 4096, slots=50),
    ModelFacts("cold", "command", "cold", None, slots=4),
    ModelFacts("Qwen/Qwen3-8B", "command", "served-qwen", 131072, slots=4),
]
ANSWER = [b'data: {"choices": [], "n": 1}\n\n', b'data:{"n":2}\r\n\r\n', b"data: [DONE]\n\n"]
Json = dict[str, Any]


async def answers(asked: Exchange) -> None:
    """A whole stream."""
    await asked.events()
    for chunk in ANSWER:
        await asked.chunk(chunk)
    await asked.end()


@dataclass
class Yard:
    server: Server
    http: httpx.AsyncClient
    box: FakeBox

    def reset(self) -> None:
        """`warm` and Qwen are ready, `cold` is nowhere, and every request gets a whole stream."""
        self.box.engine = answers
        self.box.exchanges.clear()
        for model in ("warm", "Qwen/Qwen3-8B"):
            self.box.say(model, phase=Phase.READY, in_flight=0, error=None)
        self.box.say("cold", phase=Phase.IDLE, step=None, error=None)

    def asking(
        self, model: str = "warm", *, stream: bool = True, headers: dict[str, str] | None = None
    ) -> httpx.Request:
        body = {"model": model, "stream": stream, "messages": []}
        return self.http.build_request("POST", CHAT, json=body, headers=headers)

    async def ask(
        self, model: str = "warm", *, stream: bool = True, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """The answer's head; the body is for the test to read."""
        request = self.asking(model, stream=stream, headers=headers)
        return await self.http.send(request, stream=stream)

    async def answer_of_the_second_try(self, *, stream: bool) -> httpx.Response:
        """The box goes on saying something newer, as a sidecar does once a second."""
        asking = asyncio.ensure_future(
            self.ask(stream=stream, headers={"x-swapyard-progress": "off"})
        )

        def tried_twice() -> bool:
            """two requests have reached the box"""
            self.box.say()
            return len(self.box.exchanges) == 2

        await until(tried_twice)
        response = await asking
        await response.aread()
        return response

    async def exchange(self, number: int = 0) -> Exchange:
        await until(lambda: len(self.box.exchanges) > number)
        return self.box.exchanges[number]

    async def ready(self, status: int = 200) -> None:
        async def answered() -> bool:
            return (await self.http.get("/readyz")).status_code == status

        await until(answered)


@asynccontextmanager
async def yard(tmp: Path, **settings: object) -> AsyncIterator[Yard]:
    async with FakeBox("box1", FACTS, answers) as box:
        sidecars = [{"url": box.url, "key": KEY}]
        every = {"sidecars": sidecars, "progress": {"interval": "100ms"}, **settings}
        text = "\n".join(f"{key}: {json.dumps(value)}" for key, value in every.items())
        async with router(tmp, text) as server, client(server.url) as http:
            it = Yard(server, http, box)
            it.reset()
            await it.ready()
            yield it


def error_of(response: httpx.Response) -> Json:
    """In OpenAI's shape, with the header that its clients obey."""
    assert response.headers["x-should-retry"] in ("true", "false")
    error = dict(response.json()["error"])
    assert {"message", "type", "code", "param"} <= error.keys()
    return error


async def told(response: httpx.Response) -> list[Frame]:
    return [frame async for frame in frames(response)]


async def error_in(response: httpx.Response) -> Json:
    """With which a stream ends, and not with `[DONE]`."""
    assert response.status_code == 200
    *before, last = await told(response)
    assert "[DONE]" not in [frame.data for frame in before]
    return dict(json.loads(last.data)["error"])
