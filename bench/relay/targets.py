"""What the load goes to: the engine itself, our pair before it, and whatever else runs already."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from tests.e2e.pair import until_heard
from tests.harness import ROOT, Program, client, free_port, router, sidecar, until
from tests.keys import bearer, entry, secret

ENGINE = [sys.executable, str(ROOT / "bench" / "relay" / "engine.py"), "--port"]
SLOTS = 2_000  # more than any load has connections: nothing waits


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    url: str
    key: str = ""
    pids: Mapping[str, int] = field(default_factory=dict)  # of the programs whose time is counted

    def cpu_seconds(self) -> dict[str, float]:
        times = {name: psutil.Process(pid).cpu_times() for name, pid in self.pids.items()}
        return {name: spent.user + spent.system for name, spent in times.items()}


@asynccontextmanager
async def direct(folder: Path) -> AsyncIterator[Target]:
    """The engine, with nothing between."""
    port = free_port()
    async with Program([*ENGINE, str(port)], folder), client(f"http://127.0.0.1:{port}") as http:
        await until(lambda: answers(http))
        yield Target("direct", f"http://127.0.0.1:{port}")


async def answers(http: httpx.AsyncClient) -> bool:
    """GET /health answers 200"""
    try:
        return (await http.get("/health")).status_code == 200
    except httpx.TransportError:
        return False


@asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[Target]:
    """Both programs as they are shipped, with keys, and their logs in files."""
    command = json.dumps([*ENGINE, "{port}"])
    models = f"{{bench: {{engine: command, vram: 100MiB, slots: {SLOTS}, command: {command}}}}}"
    keys = json.dumps([entry("router", "inference", "read")])
    text = f"box: bench\nmemory_limit: 1GiB\nkeys: {keys}\nmodels: {models}"
    async with sidecar(folder, text) as box:
        keys = json.dumps([entry("client", "inference")])
        boxes = json.dumps([{"url": box.url, "key": secret("router")}])
        async with router(folder, f"keys: {keys}\nsidecars: {boxes}") as front:
            pids = {"router": front.program.pid, "sidecar": box.program.pid}
            yield await warm(Target("pair", front.url, secret("client"), pids))


async def warm(target: Target) -> Target:
    """Its model is loaded."""
    async with client(target.url, timeout=30) as http:
        await until_heard(http)
        body = {"model": "bench", "messages": [{"role": "user", "content": "Hi"}]}
        answer = await http.post("/v1/chat/completions", json=body, headers=bearer("client"))
        assert answer.status_code == httpx.codes.OK, answer.text
    return target
