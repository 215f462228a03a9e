"""Very many clients wait for one model while a box switches to it, and are all answered."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from bench.crowd.process import Process, tell
from bench.relay.targets import ENGINE, Target, up
from tests.harness import ROOT, router, sidecar

SLOTS = 64
STEPS = (100, 2_000)  # how many wait when the cost of one more is measured, and all but the last
MORE = 1_000  # who come for that: fewer take no longer than a tick of the clock of processes
INTERVAL = 5  # seconds between two frames


@asynccontextmanager
async def clients(url: str, model: str) -> AsyncIterator[asyncio.subprocess.Process]:
    argv = (sys.executable, "-m", "bench.crowd.clients", url, "", model)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, cwd=ROOT)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def pair(folder: Path, sign: Path) -> AsyncIterator[tuple[str, Process, Process]]:
    """With room for one model: `bench` is there, and `late` is not before the sign."""
    late = [sys.executable, "-m", "bench.crowd.late", str(sign), *ENGINE, "{port}"]
    each = f"engine: command, vram: 900MiB, slots: {SLOTS}"
    models = f"""
      bench: {{{each}, command: {json.dumps([*ENGINE, "{port}"])}}}
      late: {{{each}, command: {json.dumps(late)}}}"""
    async with sidecar(folder, f"box: bench\nmemory_limit: 1GiB\nmodels:{models}") as box:
        boxes = json.dumps([{"url": box.url}])
        text = f"sidecars: {boxes}\nprogress: {{interval: {INTERVAL}s}}"
        async with router(folder, text) as front:
            await up(Target("pair", front.url))
            yield front.url, Process(front.program.pid), Process(box.program.pid)


async def measured(most: int, seconds: int) -> dict[str, Any]:
    """`most` clients in all; `seconds`: how long it is watched that they wait."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sign = folder / "load"
        url, front, box = await stack.enter_async_context(pair(folder, sign))
        crowd = await stack.enter_async_context(clients(url, "late"))
        before = front.rss()
        arrivals = await arrived(crowd, front, most)
        waiting = await watched(front, box, seconds)
        sign.touch()
        answered = await all_answered(crowd, front)
        rss = {"before": before, "peak": front.peak, "after": front.rss()}
        return {
            "clients": most,
            "router_rss_mib": rss,
            "arrival_cpu_us": arrivals,
            "waiting": waiting,
            "answered": answered,
        }


async def arrived(crowd: asyncio.subprocess.Process, front: Process, most: int) -> dict[str, float]:
    """What one more costs the router, by how many wait already."""
    costs, came = {}, 0
    for step in sorted({*STEPS, most - MORE}):
        if came <= step <= most - MORE:
            await tell(crowd, str(step - came))
            costs[str(step)] = await cost_of_more(crowd, front)
            came = step + MORE
    if came < most:
        await tell(crowd, str(most - came))
    return costs


async def cost_of_more(crowd: asyncio.subprocess.Process, front: Process) -> float:
    """Microseconds of the router for each that comes, without what those cost who wait already."""
    spent, began = front.cpu(), time.monotonic()
    await asyncio.sleep(INTERVAL)
    by_itself = (front.cpu() - spent) / (time.monotonic() - began)
    spent, began = front.cpu(), time.monotonic()
    await tell(crowd, str(MORE))
    spent = front.cpu() - spent - by_itself * (time.monotonic() - began)
    return round(spent / MORE * 1e6)


async def watched(front: Process, box: Process, seconds: int) -> dict[str, Any]:
    """While all wait and nothing happens; each second of it."""
    began, spent, spent_there = time.monotonic(), front.cpu(), box.cpu()
    samples: list[dict[str, float]] = []
    for _ in range(seconds):
        last, at = front.cpu(), time.monotonic()
        await asyncio.sleep(1)
        share = (front.cpu() - last) / (time.monotonic() - at)
        samples.append({"router_cpu": round(share, 3), "router_rss_mib": front.rss()})
    passed = time.monotonic() - began
    return {
        "router_cpu": round((front.cpu() - spent) / passed, 3),  # of a core
        "sidecar_cpu": round((box.cpu() - spent_there) / passed, 3),
        "router_rss_mib": max(sample["router_rss_mib"] for sample in samples),
        "by_second": samples,
    }


async def all_answered(crowd: asyncio.subprocess.Process, front: Process) -> dict[str, Any]:
    """From the sign that lets the engine load."""
    began, spent = time.monotonic(), front.cpu()
    asked = asyncio.ensure_future(tell(crowd, "all"))
    while not asked.done():
        front.rss()
        await asyncio.wait({asked}, timeout=0.2)
    took, spent = time.monotonic() - began, front.cpu() - spent
    return {**await asked, "took_s": round(took, 2), "router_cpu_s": round(spent, 2)}
