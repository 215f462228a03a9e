"""The client programs: which there are, and how one is asked.

Rule: each runs as its users run it, in an environment that holds nothing but what is named here.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.harness import ROOT

HERE = Path(__file__).resolve().parent
NODE = HERE / "node" / "node_modules" / ".bin" / "node"
END_SECONDS = 20.0  # for whatever is asked here; the longest takes three loads and 6 s of pauses

ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": os.environ.get("HOME", "/"),
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks the network when it is imported
    "LANGSMITH_TRACING": "false",
}


@dataclass(frozen=True)
class Client:
    name: str
    used: str  # what the program does, in code
    argv: tuple[str, ...]


def python(program: str, use: str, venv: str | None = None) -> tuple[str, ...]:
    own = sys.executable if venv is None else str(ROOT / ".venv-clients" / venv / "bin" / "python")
    return (own, str(HERE / "python" / program), use)


def node(program: str, use: str) -> tuple[str, ...]:
    return (str(NODE), str(HERE / "node" / program), use)


CLIENTS = (
    Client(
        "openai for Python, loop",
        "`for chunk in client.chat.completions.create(stream=True)`, `chunk.choices[0]` unguarded",
        python("openai_client.py", "sync"),
    ),
    Client(
        "openai for Python, async loop",
        "the same with `AsyncOpenAI` and `async for`",
        python("openai_client.py", "async"),
    ),
    Client(
        "openai for Python, helper",
        "`client.chat.completions.stream()`: `content.delta` events and the final completion",
        python("openai_client.py", "helper"),
    ),
    Client(
        "openai for Node, loop",
        "`for await (const chunk of stream)`, `chunk.choices[0]` unguarded",
        node("openai.mjs", "loop"),
    ),
    Client(
        "openai for Node, helper",
        "`client.chat.completions.stream()`: `content` events and `finalContent()`",
        node("openai.mjs", "helper"),
    ),
    Client(
        "LangChain, stream",
        "`ChatOpenAI(...).stream()`",
        python("langchain_client.py", "stream", "langchain-openai"),
    ),
    Client(
        "LangChain, astream",
        "`ChatOpenAI(...).astream()`",
        python("langchain_client.py", "astream", "langchain-openai"),
    ),
    Client(
        "LiteLLM, completion",
        '`litellm.completion(model="openai/...", stream=True)`; its stream has no `close`',
        python("litellm_client.py", "completion", "litellm"),
    ),
    Client(
        "LiteLLM, completion, closed",
        "the same within `with closing(stream.completion_stream)`",
        python("litellm_client.py", "closed", "litellm"),
    ),
    Client(
        "LiteLLM, acompletion",
        '`litellm.acompletion(model="openai/...", stream=True)`',
        python("litellm_client.py", "acompletion", "litellm"),
    ),
    Client(
        "Vercel AI SDK, OpenAI-compatible",
        "`streamText` with `createOpenAICompatible`; throws the first `error` part of `fullStream`",
        node("ai.mjs", "compatible"),
    ),
    Client(
        "Vercel AI SDK, OpenAI",
        "the same with `createOpenAI(...).chat()`",
        node("ai.mjs", "openai"),
    ),
)


@dataclass(frozen=True)
class Versions:
    runtime: str
    packages: Mapping[str, str]


@dataclass
class Answer:
    """What reached the user of the client; `python/talk.py` and `node/talk.mjs` fill it."""

    text: str
    reasoning: str
    told: int
    left: bool
    error: dict[str, Any] | None


@dataclass
class Running:
    """One client program; killed and started again by whoever it leaves without an answer."""

    client: Client
    log: Path
    versions: Versions = field(init=False)
    _process: Process = field(init=False)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def start(self) -> None:
        with self.log.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *self.client.argv, env=ENVIRONMENT, stdin=PIPE, stdout=PIPE, stderr=errors
            )
        said = await self._line()
        self.versions = Versions(said["runtime"], said["versions"])

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def ask(
        self, base_url: str, dialect: str, model: str, leave_after: int | None = None
    ) -> Answer:
        """Raises TimeoutError when it comes to no end."""
        question = {"base_url": base_url, "dialect": dialect, "model": model}
        line = json.dumps({**question, "leave_after": leave_after})
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        async with asyncio.timeout(END_SECONDS):
            return Answer(**await self._line())

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    async def _line(self) -> Any:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, f"{self.client.name} ended; its log:\n{self.log.read_text()}"
        return json.loads(line)
