"""Clients that ask all the time: streams and whole answers, of models that are loaded and of those
that are not; some leave, in each state that a request has.
"""

import asyncio
import json
import random
from dataclasses import dataclass, field
from typing import Any

import httpx

from shared.sse import Decoder, Event
from tests.fakes import answers
from tests.faults.storm.fleet import CRASH_AT, KINDS
from tests.faults.storm.history import Asked, History, Seen
from tests.faults.storm.seat import KEY
from tests.harness import client
from tests.keys import bearer

LIMIT = 40.0  # seconds: twice what the line may hold a request, which is the longest of all waits
LEAVERS = 0.15
LATEST_TO_LEAVE = 2.0  # seconds: a load and some tokens
NONCE = "nonce"  # begins each prompt, and stands in nothing that a program writes
THINKING = 0.4  # seconds at most between two requests
LIKED = {"quick": 5, "reporting": 3, "slow": 2, "deaf": 2, "forking": 2}  # else 1
CHAT = "/v1/chat/completions"


def prompt(asked: Asked) -> dict[str, Any]:
    said = [{"role": "user", "content": asked.nonce}]
    wish = {"stream": asked.stream, "max_tokens": asked.tokens}
    return {"model": asked.model, "messages": said, **wish}


def expected(asked: Asked) -> str:
    return answers.whole(answers.words(prompt(asked)), asked.tokens)


@dataclass
class Client:
    name: str
    fronts: dict[str, str]  # the routers, by name
    history: History
    chance: random.Random
    _left: bool = False
    _patience: asyncio.Timeout | None = None
    _seen: dict[str, Any] = field(default_factory=dict)

    async def run(self, enough: asyncio.Event) -> None:
        number = 0
        while not enough.is_set():
            number += 1
            await self._ask(self._choose(number))
            await asyncio.sleep(self.chance.uniform(0, THINKING))

    @property
    def asks(self) -> bool:
        return self._patience is not None and not self._left

    def leave(self) -> None:
        """At once, while it asks."""
        assert self._patience is not None
        self._left = True
        self._patience.reschedule(asyncio.get_running_loop().time())

    def _choose(self, number: int) -> Asked:
        names = list(KINDS)
        (model,) = self.chance.choices(names, [LIKED.get(name, 1) for name in names])
        longest = CRASH_AT + 5 if model == "crashing" else 60
        return Asked(
            nonce=f"{NONCE}-{self.name}-{number}",
            model=model,
            front=self.chance.choice(list(self.fronts)),
            tokens=self.chance.randint(1, longest),
            stream=self.chance.random() < 0.7,
        )

    async def _ask(self, asked: Asked) -> None:
        loop, self._left = asyncio.get_running_loop(), False
        leaves = self.chance.random() < LEAVERS
        patience = self.chance.uniform(0, LATEST_TO_LEAVE) if leaves else LIMIT
        self.history.invoke(asked, loop.time())
        self._seen = {"how": "whole"}
        try:
            async with asyncio.timeout(patience) as self._patience:
                await self._hear(asked)
        except TimeoutError:
            self._seen["how"] = "left" if leaves or self._left else "late"
        except (httpx.TransportError, ConnectionError):
            self._seen["how"] = "broken"
        except (ValueError, LookupError, TypeError) as unlike:
            self._seen |= {"how": "unreadable", "where": repr(unlike)}
        finally:
            self._patience = None
        self.history.end(asked.nonce, Seen(**self._seen), loop.time())

    async def _hear(self, asked: Asked) -> None:
        # A client of its own, and so a connection: one that is kept may have been broken long ago.
        async with client(self.fronts[asked.front]) as http:
            http.timeout = httpx.Timeout(None)
            http.headers.update(bearer(KEY))
            await hear(http, CHAT, asked, self._seen)


async def hear(http: httpx.AsyncClient, path: str, asked: Asked, seen: dict[str, Any]) -> None:
    """Ask, and note in `seen` what comes, as it comes."""
    async with http.stream("POST", path, json=prompt(asked)) as response:
        seen["status"] = response.status_code
        if not response.headers["content-type"].startswith("text/event-stream"):
            _read(await response.aread(), seen)
            return
        decoder = Decoder()
        async for chunk in response.aiter_raw():
            for event in decoder.feed(chunk):
                _note(event, seen)


def _read(body: bytes, seen: dict[str, Any]) -> None:
    said = json.loads(body)
    if "error" in said:
        seen["errors"] = (said["error"]["code"],)
    else:
        seen["text"] = said["choices"][0]["message"]["content"]


def _note(event: Event, seen: dict[str, Any]) -> None:
    if seen.get("dones") or seen.get("errors"):
        seen["more"] = True
    if event.data == "[DONE]":
        seen["dones"] = 1
        return
    said = json.loads(event.data)
    if "error" in said:
        seen["errors"] = (*seen.get("errors", ()), said["error"]["code"])
    elif event.event == "model_switching":
        seen["where"] = said["model_switching"]["phase"]
    else:
        text = said["choices"][0]["delta"].get("content") or ""
        seen["text"], seen["where"] = seen.get("text", "") + text, "answering"
