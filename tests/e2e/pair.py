"""The real pair for end-to-end tests: both programs, real engines, one config each."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.harness import ENGINE, ROOT, Server, client, frames, router, sidecar, until

MAKE_MODELS = ROOT / "examples" / "demo" / "make_models.py"


@dataclass(frozen=True)
class Pair:
    sidecar: Server
    router: Server
    http: httpx.AsyncClient  # to the router

    async def status(self) -> dict[str, Any]:
        async with client(self.sidecar.url) as http:
            return dict((await http.get("/models/status")).json())

    async def phase(self, model: str) -> str:
        models = (await self.status())["models"]
        return next(m["phase"] for m in models if m["id"] == model)

    async def loaded(self, model: str) -> bool:
        return await self.phase(model) == "ready"


@asynccontextmanager
async def pair(
    tmp: Path,
    models: str,
    *,
    box: str = "",
    router_yaml: str = "",
    name: str = "box1",
    env: Mapping[str, str] | None = None,
    router_env: Mapping[str, str] | None = None,
) -> AsyncIterator[Pair]:
    """`models`: the body of `models:`; `box` and `router_yaml`: further lines of each config;
    `name`: the box's; `env`: of its sidecar."""
    for folder in ("box", "router"):
        (tmp / folder).mkdir(exist_ok=True)
    text = f"box: {name}\nmemory_limit: 1GiB\n{box}\nmodels:\n{models}"
    async with sidecar(tmp / "box", text, env=env) as box1:
        text = f"sidecars: [{{url: '{box1.url}'}}]\n{router_yaml}"
        async with (
            router(tmp / "router", text, env=router_env) as front,
            client(front.url, timeout=30) as http,
        ):
            await until_heard(http)
            yield Pair(box1, front, http)


async def until_heard(http: httpx.AsyncClient) -> None:
    async def heard() -> bool:
        """the router hears the sidecar"""
        return (await http.get("/readyz")).status_code == 200

    await until(heard)


def fake(id: str, *switches: str, more: str = "") -> str:
    """One line of `models:`: the fake engine program, which takes 700 MiB of the 1 GiB."""
    command = json.dumps([sys.executable, str(ENGINE), "--port", "{port}", *switches])
    return f"  {id}: {{engine: command, vram: 700MiB, command: {command}{more}}}\n"


def embedded(id: str, path: Path, more: str = "") -> str:
    """One line of `models:`: a real llama.cpp engine, which takes 700 MiB of the 1 GiB."""
    return (
        f"  {id}: {{engine: embedded, path: {path}, vram: 700MiB, context_length: 8192, "
        f'args: ["--threads", "1"]{more}}}\n'
    )


def make_model(folder: Path, name: str) -> Path:
    """A real GGUF file of the demo's, made in a moment."""
    argv = [sys.executable, str(MAKE_MODELS), "--folder", str(folder), name]
    subprocess.run(argv, check=True, capture_output=True)
    return folder / f"{name}.gguf"


def chat(model: str, *, stream: bool = True) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Hi"}]
    return {"model": model, "stream": stream, "messages": messages}


@dataclass(frozen=True)
class Told:
    """What one streaming request was told, in order."""

    status: int
    frames: list[tuple[str, Any]]  # event name and data, parsed where it is JSON

    @property
    def switching(self) -> list[dict[str, Any]]:
        return [
            data["model_switching"] for event, data in self.frames if event == "model_switching"
        ]

    @property
    def phases(self) -> list[str]:
        """Without repetitions."""
        phases = [told["phase"] for told in self.switching]
        return [phase for n, phase in enumerate(phases) if n == 0 or phase != phases[n - 1]]

    @property
    def steps(self) -> list[str]:
        return [told["step"] for told in self.switching if told["step"]]

    @property
    def chunks(self) -> list[dict[str, Any]]:
        """The engine's own."""
        return [
            d for e, d in self.frames if e == "message" and isinstance(d, dict) and "choices" in d
        ]

    @property
    def text(self) -> str:
        deltas = [choice["delta"] for chunk in self.chunks for choice in chunk["choices"]]
        return "".join(delta.get("content") or "" for delta in deltas)

    @property
    def error(self) -> dict[str, Any] | None:
        found = [d["error"] for _, d in self.frames if isinstance(d, dict) and "error" in d]
        return found[-1] if found else None

    @property
    def done(self) -> bool:
        return bool(self.frames) and self.frames[-1][1] == "[DONE]"


async def ask(
    http: httpx.AsyncClient, body: dict[str, Any], headers: dict[str, str] | None = None
) -> Told:
    """POST it and read the whole stream."""
    url = "/v1/chat/completions"
    async with http.stream("POST", url, json=body, headers=headers or {}) as response:
        told = [(frame.event, parsed(frame.data)) async for frame in frames(response)]
        return Told(response.status_code, told)


def parsed(data: str) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data
