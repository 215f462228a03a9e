"""How soon a client that leaves is left by all that was done for it, in each state of a request.

In the line and during a load: until the router's line no longer counts it, and until the box no
longer knows of anybody who waits; both are asked every 5 ms, and a box tells such a change at most
ten times a second. Later: until the engine sees its connection closed, as it notes itself. All
clocks are CLOCK_MONOTONIC of one machine. `python -m bench.leaving` prints JSON; the limit: 200 ms.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bench.switch import summary
from tests.e2e.pair import Pair, chat, fake, pair
from tests.fakes.chaos import reset
from tests.faults.streams import posted
from tests.harness import client, until

LEAVERS = 400  # in each state
ENDLESS = ["--tokens", "1000000000", "--tokens-per-second", "50"]
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Notes:
    """What an engine notes, read as it is written: a look at it must not cost the time that is
    measured."""

    path: Path
    seen: dict[str, list[float]] = field(default_factory=dict)  # event: when
    _read: int = 0

    async def next(self, event: str) -> float:
        """When the next such thing happens after those that were waited for already."""
        await until(lambda: self._noted(event))
        return self.seen[event].pop(0)

    def _noted(self, event: str) -> bool:
        if self.path.exists():
            with self.path.open() as notes:
                notes.seek(self._read)
                lines = [json.loads(line) for line in notes]
                self._read = notes.tell()
            for line in lines:
                self.seen.setdefault(line["event"], []).append(line["at"])
        return bool(self.seen.get(event))


async def figures(folder: Path, leavers: int = LEAVERS) -> dict[str, object]:
    (folder / "leaving").mkdir()
    notes = {id: Notes(folder / f"{id}.notes") for id in ("busy", "other", "long", "prefill")}
    models = [
        noting("400MiB", notes["busy"], *ENDLESS),
        noting("700MiB", notes["other"]),  # no room for it beside `busy`
        noting("10MiB", notes["long"], "--load-seconds", "36000", more=", stall_timeout: never"),
        noting("10MiB", notes["prefill"], "--first-token-seconds", "36000"),
    ]
    async with pair(folder / "leaving", "".join(models)) as both, client(both.sidecar.url) as box:
        runs = Runs(both, box, leavers)
        for model in ("busy", "prefill"):
            await runs.begin(chat(model), notes[model])
        return {
            "leavers": leavers,
            "streaming": await runs.engine_sees(chat("busy"), notes["busy"], b" tok1"),
            "not_streaming": await runs.engine_sees(chat("busy", stream=False), notes["busy"]),
            "before_first_byte": await runs.engine_sees(chat("prefill"), notes["prefill"]),
            "loading": await runs.nobody_waits("long"),
            "in_line": await runs.nobody_waits_in_line(notes["other"]),
        }


def noting(need: str, notes: Notes, *switches: str, more: str = "") -> str:
    line = fake(notes.path.stem, *switches, "--journal", str(notes.path), more=more)
    return line.replace("700MiB", need)


@dataclass
class Runs:
    both: Pair
    box: httpx.AsyncClient  # to the sidecar
    leavers: int

    async def begin(self, body: dict[str, Any], notes: Notes) -> None:
        """The model is loaded from here on."""
        connection = await posted(self.both.router.url, body)
        await notes.next("request")
        connection[1].close()
        await notes.next("gone")

    async def engine_sees(
        self, body: dict[str, Any], notes: Notes, said: bytes = b""
    ) -> dict[str, float]:
        """From the client's leaving to the engine's noticing."""
        took = []
        for number in range(self.leavers):
            connection = await posted(self.both.router.url, body)
            await notes.next("request")
            if said:
                await connection[0].readuntil(said)
            left = leave(connection, number)
            took.append(await notes.next("gone") - left)
        return with_worst(took)

    async def nobody_waits_in_line(self, notes: Notes) -> dict[str, object]:
        """While another's stream holds the box: and not one of those who leave causes a load."""
        running = await posted(self.both.router.url, chat("busy"))
        figures = await self.nobody_waits("other")
        running[1].close()
        loads = 1 if notes.path.exists() else 0
        return {**figures, "loads": loads}

    async def nobody_waits(self, model: str) -> dict[str, object]:
        line: list[float] = []
        box: list[float] = []
        for number in range(self.leavers):
            connection = await posted(self.both.router.url, chat(model))
            await connection[0].readuntil(b"model_switching")
            await when(lambda: self._counted(model, 1))
            left = leave(connection, number)
            gone = await asyncio.gather(
                when(self._line_is_empty), when(lambda: self._counted(model, 0))
            )
            line.append(gone[0] - left)
            box.append(gone[1] - left)
        return {"router_line": with_worst(line), "box_demand": with_worst(box)}

    async def _line_is_empty(self) -> bool:
        return not (await self.both.http.get("/api/fleet")).json()["line"]

    async def _counted(self, model: str, waiting: int) -> bool:
        models = (await self.box.get("/models/status")).json()["models"]
        return next(m["waiting"] for m in models if m["id"] == model) == waiting


def leave(connection: Client, number: int) -> float:
    """Every other one is reset, as by a client that is killed. Returns when."""
    at = time.monotonic()
    if number % 2:
        reset(connection[1])
    else:
        connection[1].close()
    return at


async def when(so: Callable[[], Awaitable[bool]]) -> float:
    await until(so)
    return time.monotonic()


def with_worst(seconds: list[float]) -> dict[str, float]:
    """In milliseconds."""
    return {**summary(seconds), "worst": round(max(seconds) * 1000, 1)}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        json.dump(asyncio.run(figures(Path(folder))), sys.stdout, indent=2)
    print()
