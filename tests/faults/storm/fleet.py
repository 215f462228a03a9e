"""Two routers and two boxes, real programs with fake engines of every kind, and a proxy on each
way between them.

Router `a` and box 1 are the steady ones: nobody kills them. Both routers know both boxes.
"""

import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes.chaos import Chaos
from tests.faults.storm.box_history import BoxHistory
from tests.faults.storm.history import History
from tests.faults.storm.processes import Engines
from tests.faults.storm.seat import Seat
from tests.harness import ENGINE, client
from tests.http.boxes import llama_server

MIB = 2**20
CAPACITY = 1024 * MIB
DRAIN = 5.0
TOKENS_PER_SECOND = 50
CRASH_AT = 45  # a request for more tokens than that ends the engine `crashing`

Switches = tuple[str, ...]

# What each model's engine is like. The two big ones exclude each other, all others fit.
KINDS: dict[str, Switches] = {
    "quick": (),
    "slow": ("--load-seconds", "1.2"),
    "deaf": ("--deaf",),
    "forking": ("--fork", "1", "--double-fork", "--setsid-child", "--deaf-children"),
    "crashing": ("--crash-at", f"token:{CRASH_AT}"),
    "reporting": ("--load-seconds", "0.3"),
    "big-one": ("--load-seconds", "0.4"),
    "big-two": ("--load-seconds", "0.4", "--first-token-seconds", "0.2"),
}
SAYS = ("--echo", "--tokens", "100", "--tokens-per-second", str(TOKENS_PER_SECOND))

BOX = """\
memory_limit: 1GiB
shutdown_timeout: 2s
orphan_grace: 6s
"""
LIMITS = {
    "slots": 3,
    "gpus": "none",
    "drain_timeout": f"{DRAIN:g}s",
    "stop_timeout": "400ms",
    "silence_timeout": "1500ms",
    "stall_timeout": "3s",
    "start_timeout": "10s",
}
ROUTER = """\
box_grace: 3s
progress: {interval: 500ms}
queue: {max_wait: 20s}
"""


@dataclass
class Box:
    seat: Seat
    engines: Engines
    history: BoxHistory

    async def status(self) -> dict[str, Any]:
        async with client(self.seat.url, timeout=1.0) as http:
            return dict((await http.get("/models/status")).json())


@dataclass
class Fleet:
    boxes: dict[str, Box]
    routers: dict[str, Seat]
    links: dict[str, Chaos]

    @property
    def steady(self) -> dict[str, Seat]:
        return {"router": self.routers["a"], "sidecar": self.boxes["1"].seat}


@asynccontextmanager
async def fleet(folder: Path, history: History) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        boxes = {name: fleet_box(name, folder / f"box{name}", history) for name in ("1", "2")}
        for box in boxes.values():
            await stack.enter_async_context(box.seat)
        links, routers = {}, {}
        for name in ("a", "b"):
            for to, box in boxes.items():
                link = f"{name}-{to}"
                links[link] = await stack.enter_async_context(Chaos(box.seat.url))
            urls = [f"{{url: '{links[f'{name}-{to}'].url}'}}" for to in boxes]
            text = f"sidecars: [{', '.join(urls)}]\n{ROUTER}"
            routers[name] = Seat("router", folder / f"router-{name}", text)
            await stack.enter_async_context(routers[name])
            outside = Chaos(routers[name].url)
            links[f"clients-{name}"] = await stack.enter_async_context(outside)
        yield Fleet(boxes, routers, links)


def fleet_box(name: str, folder: Path, history: History) -> Box:
    folder.mkdir()
    journals = {model: folder / f"{model}.journal" for model in KINDS}
    text = f"box: box{name}\n{BOX}models: {json.dumps(models(folder))}\n"

    def breach(what: str, detail: str) -> None:
        history.breach(what, f"box {name}", time.monotonic(), detail)

    judge = BoxHistory(name, CAPACITY, DRAIN, breach)
    return Box(Seat("sidecar", folder, text), Engines(journals), judge)


def models(folder: Path) -> dict[str, Any]:
    """`models:` of a box whose engines note in that folder what becomes of them."""
    return {name: _model(folder, name, switches) for name, switches in KINDS.items()}


def _model(folder: Path, name: str, switches: Switches) -> dict[str, Any]:
    need = {"vram": "600MiB" if name.startswith("big") else "50MiB"}
    notes = ("--journal", str(folder / f"{name}.journal"))
    if name == "reporting":
        told = {"path": str(ENGINE), "args": [*notes, *SAYS, *switches]}
        path = {"PATH": llama_server(folder)}
        return {"engine": "llama.cpp", **told, "env": path, **need, **LIMITS}
    argv = [sys.executable, str(ENGINE), "--port", "{port}", *notes, *SAYS, *switches]
    return {"engine": "command", "command": argv, **need, **LIMITS}
