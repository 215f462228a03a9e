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

from tests.harness import ROOT, Program, Server, client, free_port, router, sidecar, until
from tests.keys import bearer, entry, secret

ENGINE = [sys.executable, str(ROOT / "bench" / "relay" / "engine.py"), "--port"]
SLOTS = 4_000  # more than any load has connections, and two routers share them: nothing waits
BALANCER = """\
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h

listen swapyard
    bind 127.0.0.1:{port}
    balance leastconn
    option httpchk GET /readyz
    option redispatch 1
    server one 127.0.0.1:{one} check
    server two 127.0.0.1:{two} check
"""


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
    async with Program([*ENGINE, str(port)], folder):
        yield await up(Target("direct", f"http://127.0.0.1:{port}"))


@asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[Target]:
    """Both programs as they are shipped, with keys, and their logs in files."""
    async with box(folder) as one, front(folder, one) as it:
        pids = {"router": it.program.pid, "sidecar": one.program.pid}
        yield await up(Target("pair", it.url, secret("client"), pids))


@asynccontextmanager
async def two_routers(folder: Path) -> AsyncIterator[Target]:
    """HAProxy, two routers, and a sidecar that both of them know."""
    second, port = folder / "second", free_port()
    second.mkdir()
    async with box(folder) as one, front(folder, one) as it, front(second, one) as other:
        ports = {"one": it.url.rpartition(":")[2], "two": other.url.rpartition(":")[2]}
        config = folder / "haproxy.cfg"
        config.write_text(BALANCER.format(port=port, **ports))
        async with Program(["haproxy", "-db", "-f", str(config)], folder) as balancer:
            for server in (it, other):
                await up(Target("two-routers", server.url, secret("client")))
            programs = {"balancer": balancer, "router": it.program, "router_2": other.program}
            pids = {name: program.pid for name, program in programs.items()}
            pids["sidecar"] = one.program.pid
            yield await up(
                Target("two-routers", f"http://127.0.0.1:{port}", secret("client"), pids)
            )


@asynccontextmanager
async def box(folder: Path) -> AsyncIterator[Server]:
    command = json.dumps([*ENGINE, "{port}"])
    models = f"{{bench: {{engine: command, vram: 100MiB, slots: {SLOTS}, command: {command}}}}}"
    keys = json.dumps([entry("router", "inference", "read")])
    text = f"box: bench\nmemory_limit: 1GiB\nkeys: {keys}\nmodels: {models}"
    async with sidecar(folder, text) as server:
        yield server


@asynccontextmanager
async def front(folder: Path, box: Server) -> AsyncIterator[Server]:
    keys = json.dumps([entry("client", "inference")])
    boxes = json.dumps([{"url": box.url, "key": secret("router")}])
    async with router(folder, f"keys: {keys}\nsidecars: {boxes}") as server:
        yield server


async def up(target: Target) -> Target:
    """Its model is loaded, and answers."""
    async with client(target.url, timeout=30) as http:

        async def answers() -> bool:
            """a request is answered"""
            try:
                answer = await http.post("/v1/chat/completions", json=BODY, headers=HEADERS)
            except httpx.TransportError:
                return False
            return answer.status_code == httpx.codes.OK

        await until(answers)
    return target


BODY = {"model": "bench", "messages": [{"role": "user", "content": "Hi"}]}
HEADERS = bearer("client")
