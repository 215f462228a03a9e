"""What tests of a sidecar share: the models of its config, and ways to see what became of them.

Rule: all is seen through the sidecar's own endpoints or the fake engine's journal.
"""

import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.harness import ENGINE, ROOT, Server, client, frames, sidecar, until

ECHO_ARGV = [sys.executable, str(ROOT / "tests" / "fakes" / "echo.py"), "{port}"]
CHAT = "v1/chat/completions"
Json = dict[str, Any]


def model(program: list[str], **settings: object) -> Json:
    return {"engine": "command", "command": program, "gpus": "none", "vram": "1MiB", **settings}


def fake(*switches: str, **settings: object) -> Json:
    """The fake engine program; `model.journal` in the state folder's parent is its journal."""
    program = [sys.executable, str(ENGINE), "--port", "{port}", "--journal", "{model}.journal"]
    return model([*program, *switches], **settings)


def llama_server(folder: Path) -> str:
    """A PATH with the fake engine program as its `llama-server`."""
    program = folder / "bin" / "llama-server"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ENGINE}" --reports "$@"\n')
    program.chmod(0o700)
    return f"{program.parent}:{os.environ['PATH']}"


def reporting(folder: Path, name: str, *switches: str, **settings: object) -> Json:
    """The fake engine program where llama-server is expected; `name.journal` is its journal."""
    return {
        "engine": "llama.cpp",
        "path": str(ENGINE),  # any file that is there
        "args": ["--journal", f"{folder}/{name}.journal", *switches],
        "env": {"PATH": llama_server(folder)},
        "vram": "1MiB",
        "gpus": "none",
        **settings,
    }


def echo(**settings: object) -> Json:
    return model(ECHO_ARGV, **settings)


@dataclass(frozen=True)
class Box:
    """A running sidecar."""

    server: Server
    http: httpx.AsyncClient
    folder: Path

    async def status(self) -> Json:
        return dict((await self.http.get("/models/status")).json())

    async def of(self, name: str) -> Json:
        return next(m for m in (await self.status())["models"] if m["id"] == name)

    async def until(self, name: str, phase: str) -> Json:
        """The model's part of the Status, once it is in that phase."""

        async def there() -> Json | None:
            now = await self.of(name)
            return now if now["phase"] == phase else None

        return await until(there)

    async def load(self, name: str) -> Json:
        assert (await self.http.post(f"/models/{name}/load")).status_code == 202
        return await self.until(name, "ready")

    async def progress_of_load(self, name: str) -> list[float]:
        """What is told of a load until it is ready, by the engine's own report."""
        seen: list[float] = []
        async with self.http.stream("GET", "/models/events") as response:
            await self.http.post(f"/models/{name}/load")
            async for frame in frames(response):
                now = next(m for m in json.loads(frame.data)["models"] if m["id"] == name)
                if now["phase"] == "ready":
                    break
                if now["progress"] is not None:
                    assert now["progress_source"] == "engine"
                    seen.append(now["progress"])
        assert now["progress"] is None
        return seen

    async def fail(self, name: str) -> Json:
        """The error with which its load ends."""
        assert (await self.http.post(f"/models/{name}/load")).status_code == 202

        async def ended() -> Json | None:
            now = await self.of(name)
            return now["error"] if now["phase"] == "idle" else None

        return await until(ended)

    async def unload(self, name: str) -> None:
        assert (await self.http.post(f"/models/{name}/unload")).status_code == 202
        await self.until(name, "idle")

    async def ask(self, name: str, path: str = CHAT) -> httpx.Response:
        return await self.http.post(f"/engines/{name}/{path}", json={"model": name})

    def chat(self, name: str, stream: bool = True) -> httpx.Request:
        body = {"model": name, "stream": stream, "messages": []}
        return self.http.build_request("POST", f"/engines/{name}/{CHAT}", json=body)

    async def serves_nobody(self, name: str) -> bool:
        return bool((await self.of(name))["in_flight"] == 0)

    def journal(self, name: str, event: str) -> list[Json]:
        path = self.folder / f"{name}.journal"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in map(json.loads, lines) if line["event"] == event]


@asynccontextmanager
async def box(
    tmp: Path, models: dict[str, Json], env: dict[str, str] | None = None, **settings: object
) -> AsyncIterator[Box]:
    """A sidecar of these models, all of which fit together."""
    async with (
        sidecar(tmp, config(tmp, models, **settings), env=env) as server,
        client(server.url) as http,
    ):
        yield Box(server, http, tmp)


def config(tmp: Path, models: dict[str, Json], **settings: object) -> str:
    """JSON is YAML. Journals lie beside the config file."""
    for name in models:
        (tmp / name).parent.mkdir(parents=True, exist_ok=True)  # of its journal
    every = {"box": "box1", "memory_limit": "64MiB", **settings, "models": models}
    text = "\n".join(f"{key}: {json.dumps(value)}" for key, value in every.items())
    return text.replace("{model}.journal", f"{tmp}/{{model}}.journal")
