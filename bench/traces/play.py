"""Plays a workload in real time against any URL that speaks OpenAI's protocol."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from bench.waits import by_model, summary
from bench.workload import Agent, Workload
from tests.harness import frames

PACE = 20.0  # tokens per second: coarse enough that the engines cost no time that is measured
PREFILL = 0.05  # seconds until an engine's first token


@dataclass(frozen=True, slots=True)
class Seen:
    """One request, as its client saw it; times in seconds."""

    model: str
    asked: float  # since the beginning
    answer: float  # what its engine takes
    first: float | None  # until the first byte of an answer; None: there was no whole one
    whole: float
    status: int | None  # None: the connection ended before

    @property
    def wait(self) -> float:
        """What did not go into the answer itself."""
        return max(0.0, self.whole - self.answer)


class Player:
    def __init__(self, http: httpx.AsyncClient, *, stream: bool) -> None:
        self._http, self._stream = http, stream
        self._began = time.monotonic()
        self.seen: list[Seen] = []

    @property
    def now(self) -> float:
        return time.monotonic() - self._began

    async def play(self, workload: Workload) -> None:
        async with asyncio.TaskGroup() as group:
            for agent in workload.agents:
                group.create_task(self._keep_asking(agent, workload.seconds))
            for arrival in workload.arrivals:
                await asyncio.sleep(max(0.0, arrival.at - self.now))
                group.create_task(self._ask(arrival.model, arrival.answer))

    async def _keep_asking(self, agent: Agent, until: float) -> None:
        await asyncio.sleep(agent.start)
        for model, answer in agent.asks():
            if self.now >= until:
                break
            await self._ask(model, answer)
            await asyncio.sleep(agent.pause)

    async def _ask(self, model: str, answer: float) -> None:
        """`answer` seconds, to the nearest token."""
        asked, tokens = self.now, max(1, round((answer - PREFILL) * PACE))
        body = {
            "model": model,
            "stream": self._stream,
            "max_tokens": tokens + 1,  # the first one comes right after the prefill
            "messages": [{"role": "user", "content": "Hi"}],
        }
        first = status = None
        try:
            async with self._http.stream("POST", "/v1/chat/completions", json=body) as response:
                status = response.status_code
                first = await self._read(response)
        except httpx.ConnectError:
            raise  # nobody is there: nothing can be compared
        except httpx.HTTPError:
            first = None
        heard = None if first is None else first - self._began - asked
        takes = PREFILL + tokens / PACE
        self.seen.append(Seen(model, asked, takes, heard, self.now - asked, status))

    async def _read(self, response: httpx.Response) -> float | None:
        """When the answer began, if it also ended well: what a server says meanwhile is none."""
        first, last = None, ""
        if not (self._stream and response.is_success):
            await response.aread()
            return time.monotonic() if response.is_success else None
        async for frame in frames(response):
            if (
                first is None
                and frame.event == "message"
                and '"content":"tok' in packed(frame.data)
            ):
                first = frame.at
            last = frame.data
        return first if last == "[DONE]" else None


def packed(data: str) -> str:
    return data.replace('": ', '":')


async def play(url: str, workload: Workload, *, stream: bool, patience: float) -> list[Seen]:
    """`patience`: seconds that a client waits for its answer."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=url, timeout=patience, limits=limits, trust_env=False, verify=False
    ) as http:
        player = Player(http, stream=stream)
        await player.play(workload)
        return player.seen


def figures(seen: Sequence[Seen]) -> dict[str, Any]:
    """Waits: what did not go into the answers. `whole` and `first_byte` are as the clients saw
    them."""
    good = [s for s in seen if s.first is not None]
    return {
        "requests": len(seen),
        "without_an_answer": len(seen) - len(good),
        "whole_s": summary([s.whole for s in good]),
        "first_byte_s": summary([s.first for s in good if s.first is not None]),
        "wait_s": summary([s.wait for s in good]),
        "wait_s_by_model": by_model((s.model, s.wait) for s in good),
    }
