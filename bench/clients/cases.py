"""The cases: each brings one client into one situation and notes what was seen.

Rule: nothing is judged here; `verdict.py` does that.

Each pair of client and dialect has models of its own, of which the box holds one at a time: every
load is a switch, and no cell can be disturbed by the failures of another.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from bench.clients.programs import Answer, Running
from tests.e2e.pair import Pair, ask, chat, fake
from tests.harness import until

LOAD = ("--load-seconds", "1")
LEAVES_LOADING_AFTER = 0.3  # seconds of the load, between its first frames and its end
# Before Python 3.12 asyncio's `wait_for`, which LangChain uses, loses a cancellation that meets a
# chunk; that was seen now and then.
AGAIN_AFTER = 0.5  # seconds
LEAVES_AFTER = 3  # pieces of text
TEXT_SECONDS = 5.0  # the first pieces take 0.5 s
GONE_SECONDS = 3.0  # until nothing of a client that left may be left; the aim is 0.2


Asked = asyncio.Task[Answer | None]


@dataclass(frozen=True)
class Seen:
    answer: Answer | None  # None: it came to no end
    loads: int = 0  # how often its model was started
    left_behind: str = ""  # what was still there of a client that had left


@dataclass(frozen=True)
class Desk:
    """One client before one pair."""

    both: Pair
    program: Running
    folder: Path

    async def ask(self, dialect: str, model: str, leave_after: int | None = None) -> Answer | None:
        url = f"{self.both.router.url}/v1"
        try:
            return await self.program.ask(url, dialect, model, leave_after)
        except TimeoutError:
            await self.start_afresh()
            return None

    async def start_afresh(self) -> None:
        await self.program.kill()
        await self.program.start()

    def noted(self, model: str, event: str) -> int:
        """How often the model's engines have noted an event."""
        path = journal(self.folder, model)
        lines = path.read_text().splitlines() if path.exists() else []
        return sum(json.loads(line)["event"] == event for line in lines)


def models(folder: Path, dialects: list[str]) -> str:
    """The body of `models:`."""
    lines = [fake("warm", "--tokens", "4")]
    for dialect in dialects:
        switches = {
            "cold": [*LOAD, "--tokens", "4"],
            "broken": [*LOAD, "--crash-at", "load"],
            "dying": ["--crash-at", "token:3", "--tokens-per-second", "20"],
            "waited": LOAD,
            "slow": ["--tokens", "1000", "--tokens-per-second", "20"],
        }
        for kind, more in switches.items():
            id = f"{kind}-{dialect}"
            lines.append(fake(id, *more, "--journal", str(journal(folder, id))))
    return "".join(lines)


def journal(folder: Path, model: str) -> Path:
    return folder / f"{model}.journal"


async def warm(desk: Desk, dialect: str) -> Seen:
    assert (await ask(desk.both.http, chat("warm"))).done
    return Seen(await desk.ask(dialect, "warm"))


async def cold(desk: Desk, dialect: str) -> Seen:
    return Seen(await desk.ask(dialect, f"cold-{dialect}"))


async def load_fails(desk: Desk, dialect: str) -> Seen:
    model = f"broken-{dialect}"
    answer = await desk.ask(dialect, model)
    return Seen(answer, loads=desk.noted(model, "started"))


async def engine_dies(desk: Desk, dialect: str) -> Seen:
    return Seen(await desk.ask(dialect, f"dying-{dialect}"))


async def leaves_the_line(desk: Desk, dialect: str) -> Seen:
    """It is interrupted while its model loads."""
    model = f"waited-{dialect}"
    asked = asyncio.create_task(desk.ask(dialect, model))

    async def loads_or_ended() -> bool:
        """the model loads, or the client has come to an end of its own"""
        return asked.done() or await desk.both.phase(model) == "starting"

    await until(loads_or_ended)
    answer = await interrupted(desk, asked, LEAVES_LOADING_AFTER)
    left_behind = await what_is_left(desk, model)
    await until(lambda: settled(desk, model))  # a load that has begun is finished
    if desk.noted(model, "request"):
        left_behind = "a request to the engine"
    return await closed(desk, Seen(answer, left_behind=left_behind))


async def interrupted(desk: Desk, asked: Asked, after: float) -> Answer | None:
    """Its answer; by Ctrl-C, and by another one, if it takes longer."""
    await asyncio.wait({asked}, timeout=after)
    while not asked.done():
        desk.program.interrupt()
        await asyncio.wait({asked}, timeout=AGAIN_AFTER)
    return asked.result()


async def settled(desk: Desk, model: str) -> bool:
    """the engine is ready, or gone"""
    return await desk.both.phase(model) in ("ready", "idle")


async def leaves_the_answer(desk: Desk, dialect: str) -> Seen:
    """It leaves by itself after a few pieces of text; who hears no text is interrupted."""
    model = f"slow-{dialect}"
    asked = asyncio.create_task(desk.ask(dialect, model, LEAVES_AFTER))
    answer = await interrupted(desk, asked, TEXT_SECONDS)
    return await closed(desk, Seen(answer, left_behind=await what_is_left(desk, model)))


async def closed(desk: Desk, seen: Seen) -> Seen:
    """What one client has left behind does not disturb the next case."""
    if seen.left_behind:
        await desk.start_afresh()
    return seen


async def what_is_left(desk: Desk, model: str) -> str:
    """Of a client that has left, in words; empty within bounds."""

    async def nothing_left() -> bool:
        return not any((await remains(desk, model)).values())

    try:
        await until(nothing_left, timeout=GONE_SECONDS)
    except AssertionError:
        left = await remains(desk, model)
        return ", ".join(f"{count} {where}" for where, count in left.items() if count)
    return ""


async def remains(desk: Desk, model: str) -> dict[str, int]:
    """What router, sidecar and engine still have of a model's only client."""
    line = (await desk.both.http.get("/api/fleet")).json()["line"]
    row = next(row for row in (await desk.both.status())["models"] if row["id"] == model)
    ended = desk.noted(model, "gone") + desk.noted(model, "answered")
    return {
        "in the router's line": len(line),
        "waiting at the sidecar": row["waiting"],
        "in flight at the sidecar": row["in_flight"],
        "at the engine": desk.noted(model, "request") - ended,
    }


CASES: dict[str, Callable[[Desk, str], Awaitable[Seen]]] = {
    "warm": warm,
    "cold": cold,
    "load fails": load_fails,
    "engine dies": engine_dies,
    "leaves while it loads": leaves_the_line,
    "leaves in mid-answer": leaves_the_answer,
}
