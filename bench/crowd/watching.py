"""Many watch, and one of them never reads: how soon each hears of a change.

The sidecar's `/models/events`: a model with one slot is asked again and again, and each time that
the slot becomes free is a change that goes out at once. The router's `/models/sse`: a box, which
costs nothing, says how far the load of its model is, and each time something else: so what is heard
is known to be that very change. A change is made at the `at` of its Status; all clocks are the
machine's. Who is told the newest only may not hear of each one: `heard` stands beside `to_hear`.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.crowd.process import Process, tell
from bench.relay.targets import BODY, ENGINE, Target, up
from bench.waits import share
from shared.status import ModelFacts, Phase
from tests.fakes.box import FakeBox
from tests.harness import ROOT, client, router, sidecar

PER_SECOND = 20  # changes
LAST = 1.0  # seconds in which the last one arrives
AT = re.compile(r'"at":([0-9.]+)')

Heard = Sequence[Sequence[tuple[float, str]]]  # by watcher: when, and what


async def measured(watchers: int, seconds: int) -> dict[str, Any]:
    return {
        "watchers": watchers,
        "/models/events": await of_the_sidecar(watchers, seconds),
        "/models/sse": await of_the_router(watchers, seconds),
    }


async def of_the_sidecar(watchers: int, seconds: int) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model = f"{{engine: command, slots: 1, command: {json.dumps([*ENGINE, '{port}'])}}}"
        text = f"box: bench\nmemory_limit: 1GiB\nmodels: {{bench: {model}}}"
        box = await stack.enter_async_context(sidecar(folder, text))
        text = f"sidecars: {json.dumps([{'url': box.url}])}"
        front = await stack.enter_async_context(router(folder, text))
        await up(Target("pair", front.url))
        process = Process(box.program.pid)
        watching = await stack.enter_async_context(readers(box.url, "/models/events", watchers))
        began, spent = time.monotonic(), process.cpu()
        await ask(front.url, seconds)
        passed, spent = time.monotonic() - began, process.cpu() - spent
        heard = await noted(watching)
    # Who came first has heard of each one that came later.
    made = [[(at, float(AT.findall(said)[0])) for at, said in one] for one in heard]
    while_asked = [[pair for pair in one if pair[1] > made[-1][0][0]] for one in made]
    lags = [at - change for one in while_asked for at, change in one]
    changes = len({change for one in while_asked for _, change in one})
    share_of_a_core = round(spent / passed, 3)
    told = {"changes": changes, "to_hear": changes * (watchers - 1)}
    return {**told, **times(lags), "sidecar_cpu": share_of_a_core}


async def ask(url: str, seconds: int) -> None:
    """Requests for short answers, each of which takes and leaves the only slot."""
    async with client(url) as http:
        began = time.monotonic()
        for n in range(seconds * PER_SECOND):
            await asyncio.sleep(max(0.0, began + n / PER_SECOND - time.monotonic()))
            answer = await http.post("/v1/chat/completions", json=BODY)
            assert answer.status_code == httpx.codes.OK, answer.text


async def of_the_router(watchers: int, seconds: int) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        facts = ModelFacts("bench", "command", "bench", None, slots=1)
        box = await stack.enter_async_context(FakeBox("bench", [facts], no_answer))
        text = f"sidecars: {json.dumps([{'url': box.url}])}"
        front = await stack.enter_async_context(router(folder, text))
        process = Process(front.program.pid)
        watching = await stack.enter_async_context(readers(front.url, "/models/sse", watchers))
        began, spent = time.monotonic(), process.cpu()
        made = await said(box, seconds)
        passed, spent = time.monotonic() - began, process.cpu() - spent
        heard = await noted(watching)
    told = [(at, progress_in(event)) for one in heard for at, event in one]
    lags = [at - made[progress] for at, progress in told if progress is not None]
    share_of_a_core = round(spent / passed, 3)
    to_hear = {"changes": len(made), "to_hear": len(made) * (watchers - 1)}
    return {**to_hear, **times(lags), "router_cpu": share_of_a_core}


def progress_in(event: str) -> float | None:
    """None: before the first change."""
    value: float | None = json.loads(event)["data"].get("progress", {}).get("value")
    return value


async def no_answer(asked: object) -> None:
    raise AssertionError("nobody is asked")


async def said(box: FakeBox, seconds: int) -> dict[float, float]:
    """Its changes: the progress that is told, and when."""
    changes, number, began = {}, seconds * PER_SECOND, time.monotonic()
    for n in range(number):
        await asyncio.sleep(max(0.0, began + n / PER_SECOND - time.monotonic()))
        progress = (n + 1) / number
        box.say("bench", phase=Phase.STARTING, progress=progress, progress_source="engine")
        changes[progress] = box.status.at
    return changes


# Those who watch.


@asynccontextmanager
async def readers(url: str, path: str, number: int) -> AsyncIterator[asyncio.subprocess.Process]:
    argv = (sys.executable, "-m", "bench.crowd.readers", url, path, str(number))
    pipe, limit = asyncio.subprocess.PIPE, 2**28  # all that they have noted is one line
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=pipe, stdout=pipe, cwd=ROOT, limit=limit
    )
    try:
        assert process.stdout
        await process.stdout.readline()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def noted(process: asyncio.subprocess.Process) -> Heard:
    await asyncio.sleep(LAST)
    heard: Heard = await tell(process, "enough")
    return heard


def times(lags: Sequence[float]) -> dict[str, Any]:
    ordered = sorted(lags)
    parts = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}
    told = {name: round(share(ordered, part) * 1000, 1) for name, part in parts.items()}
    return {"heard": len(ordered), **told}
