"""How soon a client that leaves is left by all that was done for it, in each state of a request.

In the line and during a load: until the router has told the box that nobody waits any more, as seen
on the wire between the two. Later: until the engine sees its connection closed, as it notes itself.
All clocks are CLOCK_MONOTONIC of one machine. `python -m bench.leaving` prints JSON, in
milliseconds; the limit is 200. Half of the clients leave by a reset, and half have a long prompt.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.switch import summary
from shared import demand
from tests.e2e.pair import chat
from tests.fakes.chaos import reset
from tests.faults.streams import Yard, engine, journal_of, posted, yard, yard_over_chaos
from tests.harness import until

LEAVERS = 400  # in each state
ENDLESS = ["--tokens", "1000000000", "--tokens-per-second", "50"]
LONG = {"messages": [{"role": "user", "content": "x" * 100_000}]}
PREFILL = ["--first-token-seconds", "36000"]
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


class Demand:
    """What the router tells the box: who waits, as it goes over the wire."""

    def __init__(self) -> None:
        self._waiting: Counter[str] = Counter()
        self._since = 0.0

    def hear(self, data: bytes) -> None:
        begin = data.find(b'{"v":')
        if begin < 0:  # it is no demand
            return
        models = demand.Demand.from_json(data[begin:]).models
        waiting = Counter({id: sum(told.waiting.values()) for id, told in models.items()})
        if waiting != self._waiting:
            self._waiting, self._since = waiting, time.monotonic()

    async def when(self, model: str, waiting: int) -> float:
        """When the box was told that so many wait."""
        await until(lambda: self._waiting[model] == waiting)
        return self._since


async def figures(folder: Path, leavers: int = LEAVERS) -> dict[str, object]:
    """Who leaves when the engine has the request, and who leaves before."""
    return {
        "leavers": leavers,
        **await engines_see(made(folder / "later"), leavers),
        **await boxes_hear(made(folder / "sooner"), leavers),
    }


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


async def engines_see(folder: Path, leavers: int) -> dict[str, object]:
    models = engine(folder, "busy", *ENDLESS) + engine(folder, "prefill", *PREFILL)
    async with yard(folder, models) as it:
        notes = {model: Notes(journal_of(folder, model)) for model in ("busy", "prefill")}
        for model in notes:  # it is loaded from here on
            await one_that_leaves(it, chat(model), notes[model])
        return {
            "before_first_byte": await engine_sees(it, chat("prefill"), notes, leavers),
            "streaming": await engine_sees(it, chat("busy"), notes, leavers, b" tok1"),
            "not_streaming": await engine_sees(it, chat("busy", stream=False), notes, leavers),
        }


async def engine_sees(
    it: Yard, body: dict[str, Any], notes: dict[str, Notes], leavers: int, said: bytes = b""
) -> dict[str, float]:
    """From the client's leaving to the engine's noticing."""
    noted = notes[body["model"]]
    return summary_with_worst(
        [await one_that_leaves(it, body, noted, said, number) for number in range(leavers)]
    )


async def one_that_leaves(
    it: Yard, body: dict[str, Any], notes: Notes, said: bytes = b"", number: int = 0
) -> float:
    client = await asks(it, body, number)
    await notes.next("request")
    if said:
        await client[0].readuntil(said)
    left = leave(client, number)
    return await notes.next("gone") - left


async def boxes_hear(folder: Path, leavers: int) -> dict[str, object]:
    """`other` is waited for while somebody's stream holds its room."""
    models = [
        engine(folder, "busy", *ENDLESS).replace("10MiB", "400MiB"),
        engine(folder, "other").replace("10MiB", "700MiB"),
        engine(folder, "long", "--load-seconds", "36000", more=", stall_timeout: never"),
    ]
    async with yard_over_chaos(folder, "".join(models)) as it:
        told = Demand()
        it.inside.heard = told.hear
        loading = await box_hears(it, told, "long", leavers)
        running = await posted(it.pair.router.url, chat("busy"))
        await running[0].readuntil(b" tok1")
        in_line = await box_hears(it, told, "other", leavers)
        leave(running, 0)
        loads = len(it.noted("other", "started"))
        return {"loading": loading, "in_line": {**in_line, "loads": loads}}


async def box_hears(it: Yard, told: Demand, model: str, leavers: int) -> dict[str, float]:
    took = []
    for number in range(leavers):
        client = await asks(it, chat(model), number)
        await client[0].readuntil(b"model_switching")
        await told.when(model, 1)
        left = leave(client, number)
        took.append(await told.when(model, 0) - left)
    return summary_with_worst(took)


async def asks(it: Yard, body: dict[str, Any], number: int) -> Client:
    """Two with a short prompt, then two with a long one: of each, one leaves in each way."""
    return await posted(it.pair.router.url, body | LONG if number // 2 % 2 else body)


def leave(connection: Client, number: int) -> float:
    """Every other one is reset, as by a client that is killed. Returns when."""
    at = time.monotonic()
    if number % 2:
        reset(connection[1])
    else:
        connection[1].close()
    return at


def summary_with_worst(seconds: list[float]) -> dict[str, float]:
    """In milliseconds."""
    return {**summary(seconds), "worst": round(max(seconds) * 1000, 1)}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        json.dump(asyncio.run(figures(Path(folder))), sys.stdout, indent=2)
    print()
