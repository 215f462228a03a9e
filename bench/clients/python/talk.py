"""How a client program talks with the command: one JSON line per question in, one per answer out.

Rule: standard library only. It runs in the venv of each client, where nothing of ours is.

SIGINT is the Ctrl-C of somebody who leaves: it interrupts a program, or cancels its task.
"""

import asyncio
import json
import os
import platform
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any


@dataclass
class Question:
    base_url: str
    dialect: str
    model: str
    leave_after: int | None  # pieces of text; None: stay to the end

    @property
    def headers(self) -> dict[str, str]:
        return {"X-Swapyard-Progress": self.dialect}


class Answer:
    """What reached the user of a client, also where it ends with an exception."""

    def __init__(self, question: Question) -> None:
        self.text, self.reasoning = "", ""
        self.told = 0  # chunks whose `model_switching` could be read
        self.left = False
        self.error: dict[str, Any] | None = None
        self._pieces_left = question.leave_after

    def hears(self, text: str | None, reasoning: str | None = None, told: object = None) -> None:
        self.text += text or ""
        self.reasoning += reasoning or ""
        self.told += told is not None
        if text and self._pieces_left is not None:
            self._pieces_left -= 1

    @property
    def enough(self) -> bool:
        self.left = self.left or self._pieces_left == 0
        return self.left

    def fails(self, error: Exception) -> None:
        code = getattr(error, "code", None)
        self.error = {"type": type(error).__name__, "message": str(error), "code": code}

    def said(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}


def serve(ask: Callable[[Question, Answer], None], *packages: str) -> None:
    """For clients that block: Ctrl-C is KeyboardInterrupt, wherever they are."""
    say = introduced(packages)
    while line := sys.stdin.readline():
        question = Question(**json.loads(line))
        answer = Answer(question)
        try:
            ask(question, answer)
        except KeyboardInterrupt:
            answer.left = True
        except Exception as error:  # noqa: BLE001 - whatever a user would get
            answer.fails(error)
        say(answer.said())


def serve_async(ask: Callable[[Question, Answer], Awaitable[None]], *packages: str) -> None:
    """For clients that await: leaving cancels their task, and the loop runs on."""
    asyncio.run(_serve_async(ask, introduced(packages)))


async def _serve_async(
    ask: Callable[[Question, Answer], Awaitable[None]], say: Callable[[dict[str, Any]], None]
) -> None:
    loop = asyncio.get_running_loop()
    while line := await asyncio.to_thread(sys.stdin.readline):
        question = Question(**json.loads(line))
        answer = Answer(question)
        task = asyncio.ensure_future(ask(question, answer))
        loop.add_signal_handler(signal.SIGINT, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            answer.left = True
        except Exception as error:  # noqa: BLE001 - whatever a user would get
            answer.fails(error)
        say(answer.said())


def introduced(packages: tuple[str, ...]) -> Callable[[dict[str, Any]], None]:
    """The first line says who speaks; what clients print goes to stderr, not between our lines."""
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(value: dict[str, Any]) -> None:
        lines.write(json.dumps(value) + "\n")
        lines.flush()

    runtime = f"Python {platform.python_version()}"
    say({"runtime": runtime, "versions": {package: version(package) for package in packages}})
    return say
