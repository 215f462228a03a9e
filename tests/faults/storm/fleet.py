"""Two routers and two boxes, real programs with fake engines of every kind, and a proxy on each
way between them.

Router `a` and box 1 are the steady ones: nobody kills them. Both routers know both boxes.
"""

import json
import random
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
from tests.faults.storm.seat import KEY, Seat
from tests.harness import ENGINE
from tests.http.boxes import llama_server
from tests.keys import secret

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
        async with self.seat.client(timeout=1.0) as http:
            return dict((await http.get("/models/status")).json())

    async def load(self, model: str, how: str = "load") -> None:
        async with self.seat.client() as http:
            (await http.post(f"/models/{model}/{how}")).raise_for_status()


@dataclass
class Fleet:
    boxes: dict[str, Box]
    routers: dict[str, Seat]
    links: dict[str, Chaos]

    @property
    def seats(self) -> dict[str, Seat]:
        boxes = {f"sidecar {name}": box.seat for name, box in self.boxes.items()}
        return {**boxes, **{f"router {name}": seat for name, seat in self.routers.items()}}

    @property
    def steady(self) -> dict[str, Seat]:
        return {"router": self.routers["a"], "sidecar": self.boxes["1"].seat}


@asynccontextmanager
async def fleet(folder: Path, history: History, seed: int) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        boxes = {name: fleet_box(name, folder / f"box{name}", history) for name in ("1", "2")}
        for box in boxes.values():
            await stack.enter_async_context(box.seat)
        links: dict[str, Chaos] = {}
        routers = {}

        async def link(name: str, seat: Seat) -> str:
            chance = random.Random(f"{seed} {name}")
            links[name] = await stack.enter_async_context(Chaos(seat.url, chance))
            return links[name].url

        for name in ("a", "b"):
            ways = [await link(f"{name}-{to}", box.seat) for to, box in boxes.items()]
            routers[name] = Seat("router", folder / f"router-{name}", router_text(ways))
            await stack.enter_async_context(routers[name])
            await link(f"clients-{name}", routers[name])
        yield Fleet(boxes, routers, links)


def router_text(ways: list[str]) -> str:
    return f"sidecars: {json.dumps([{'url': way, 'key': secret(KEY)} for way in ways])}\n{ROUTER}"


def fleet_box(name: str, folder: Path, history: History) -> Box:
    folder.mkdir()
    journals = {model: folder / f"{model}.journal" for model in KINDS}
    text = f"box: box{name}\n{BOX}models: {json.dumps(models(folder))}\n"

    def breach(what: str, detail: str) -> None:
        history.breach(what, f"box {name}", time.monotonic(), detail)

    needs = {model: need(model) * MIB for model in KINDS}
    judge = BoxHistory(name, needs, CAPACITY, DRAIN, breach)
    return Box(Seat("sidecar", folder, text), Engines(journals), judge)


def models(folder: Path) -> dict[str, Any]:
    """`models:` of a box whose engines note in that folder what becomes of them."""
    return {name: _model(folder, name, switches) for name, switches in KINDS.items()}


def need(model: str) -> int:
    """MiB."""
    return 600 if model.startswith("big") else 50


def _model(folder: Path, name: str, switches: Switches) -> dict[str, Any]:
    room = {"vram": f"{need(name)}MiB"}
    notes = ("--journal", str(folder / f"{name}.journal"))
    if name == "reporting":
        told = {"path": str(ENGINE), "args": [*notes, *SAYS, *switches]}
        path = {"PATH": llama_server(folder)}
        return {"engine": "llama.cpp", **told, "env": path, **room, **LIMITS}
    argv = [sys.executable, str(ENGINE), "--port", "{port}", *notes, *SAYS, *switches]
    return {"engine": "command", "command": argv, **room, **LIMITS}
