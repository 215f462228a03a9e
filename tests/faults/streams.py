"""What the tests of faults share: the pair with fake engines that are loaded already, and answers
as they come over the wire.
"""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from shared.sse import Decoder, Event
from tests.e2e.pair import Pair, ask, chat, fake, pair, until_heard
from tests.fakes.chaos import Chaos
from tests.faults.storm.processes import send
from tests.harness import client, router, sidecar, until

CHAT = "/v1/chat/completions"
Json = dict[str, Any]


@dataclass(frozen=True)
class Yard:
    """The pair and where its engines note what happens to them."""

    pair: Pair
    folder: Path

    @property
    def http(self) -> httpx.AsyncClient:
        return self.pair.http

    def noted(self, model: str, event: str) -> list[Json]:
        path = journal_of(self.folder, model)
        lines = path.read_text().splitlines() if path.exists() else []
        return [entry for line in lines if (entry := json.loads(line))["event"] == event]

    async def idle(self, model: str) -> None:
        """Wait until none of its slots is taken and nobody waits for it."""

        async def free() -> bool:
            """no slot is taken and nobody waits"""
            found = await self.of(model)
            return (found["in_flight"], found["waiting"]) == (0, 0)

        await until(free)

    async def of(self, model: str) -> Json:
        """What the Status says of it."""
        models = (await self.pair.status())["models"]
        return next(found for found in models if found["id"] == model)

    async def well(self, model: str) -> None:
        """It serves the next one as if nothing had been."""
        assert (await ask(self.http, chat(model))).done
        await self.idle(model)


def engine(folder: Path, id: str, *switches: str, more: str = "") -> str:
    """One line of `models:`: a fake engine so small that all of them fit, with a journal."""
    line = fake(id, *switches, "--journal", str(journal_of(folder, id)), more=more)
    return line.replace("700MiB", "10MiB")


def journal_of(folder: Path, model: str) -> Path:
    return folder / f"{model}.journal"


@asynccontextmanager
async def yard(
    folder: Path, models: str, *loaded: str, router_yaml: str = "progress: {interval: 100ms}"
) -> AsyncIterator[Yard]:
    """`loaded`: models that are ready before the first test looks for what was left behind."""
    async with pair(folder, models, router_yaml=router_yaml) as both:
        for model in loaded:
            assert (await ask(both.http, chat(model))).done
        yield Yard(both, folder)


@dataclass(frozen=True)
class ChaosYard(Yard):
    inside: Chaos  # between the router and its box
    outside: Chaos  # between clients and the router


@asynccontextmanager
async def yard_over_chaos(
    folder: Path, models: str, *loaded: str, router_yaml: str = ""
) -> AsyncIterator[ChaosYard]:
    """The same with a proxy between the router and its box, and one before the router."""
    for part in ("box", "router"):
        (folder / part).mkdir(parents=True)
    text = f"memory_limit: 1GiB\nmodels:\n{models}"
    async with sidecar(folder / "box", text) as box, Chaos(box.url) as inside:
        text = f"sidecars: [{{url: '{inside.url}'}}]\n{router_yaml}"
        async with (
            router(folder / "router", text) as front,
            Chaos(front.url) as outside,
            client(outside.url, timeout=30) as http,
        ):
            await until_heard(http)
            for model in loaded:
                assert (await ask(http, chat(model))).done
            yield ChaosYard(Pair(box, front, http), folder, inside, outside)


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    send(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        send(pid, signal.SIGCONT)


# What comes over the wire.


@dataclass(frozen=True)
class Got:
    """`whole`: as far as HTTP knows, nothing is missing."""

    status: int
    headers: httpx.Headers
    body: bytes
    whole: bool

    @property
    def events(self) -> list[Event]:
        return Decoder().feed(self.body)

    @property
    def error(self) -> Json | None:
        """In the place where a client looks for it."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            said = self.events[-1].data if self.events else ""
        else:
            said = self.body.decode("utf-8", "replace")
        try:
            found = json.loads(said)
        except ValueError:
            return None
        return dict(found["error"]) if isinstance(found, dict) and "error" in found else None

    @property
    def code(self) -> str | None:
        return None if self.error is None else self.error["code"]


def asking(model: str, *, stream: bool = True, **manner: object) -> Json:
    """For an answer in that manner (tests/fakes/misbehaviour.py)."""
    return {**chat(model, stream=stream), "fake": manner}


async def got(http: httpx.AsyncClient, body: Json, dialect: str = "off") -> Got:
    received = bytearray()
    headers = {"x-swapyard-progress": dialect}
    async with http.stream("POST", CHAT, json=body, headers=headers) as response:
        try:
            async for chunk in response.aiter_raw():
                received += chunk
        except httpx.RemoteProtocolError:
            return Got(response.status_code, response.headers, bytes(received), whole=False)
        return Got(response.status_code, response.headers, bytes(received), whole=True)


async def posted(
    url: str, body: Json, path: str = CHAT
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection of its own on which that was asked: for those who will not behave."""
    where = httpx.URL(url)
    reader, writer = await asyncio.open_connection(where.host, where.port)
    said = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {where.host}\r\nContent-Length: {len(said)}\r\n\r\n"
    writer.write(head.encode() + said)
    return reader, writer
