"""A program that may be killed at any moment, and comes back on the same port and state folder.

Rule: it knows whether somebody wanted it to end; an end that nobody wanted is a breach (watch.py).
"""

import json
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.faults.storm.processes import frozen, send
from tests.harness import Program, client, free_port, until
from tests.keys import EVERY_SCOPE, bearer, entry

KEY = "storm"  # its name; who has it may do all, in every program
UP_WITHIN = 20.0  # seconds: a start on a machine that does much else


class Seat:
    """`module` runs in `folder`, with the text of its config, but for the address."""

    def __init__(self, module: str, folder: Path, text: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self._module = module
        folder.mkdir(exist_ok=True)
        self._config = folder / f"{module}.yaml"
        keys = json.dumps([entry(KEY, *EVERY_SCOPE)])
        self._config.write_text(f"listen: 127.0.0.1:{self.port}\nkeys: {keys}\n{text}")
        self.program: Program | None = None
        self.is_to_end = False

    async def start(self, point: str = "") -> None:
        """Does not wait until it is up. `point`: where it kills itself (points.py), if it comes
        there."""
        by = ["tests.faults.points", point] if point else [self._module]
        argv = [sys.executable, "-m", *by, "--config", str(self._config)]
        self.is_to_end = bool(point)
        self.program = await Program(argv, self.folder).__aenter__()

    def client(self, *, timeout: float = 10.0) -> httpx.AsyncClient:
        http = client(self.url, timeout=timeout)
        http.headers.update(bearer(KEY))
        return http

    async def up(self) -> None:
        async with self.client() as http:

            async def answers() -> bool:
                """it answers /healthz"""
                assert self.code is None, f"it ended with {self.code}:\n{self.log()}"
                with suppress(httpx.TransportError):
                    return (await http.get("/healthz")).status_code == 200
                return False

            await until(answers, UP_WITHIN)

    @property
    def pid(self) -> int:
        assert self.program is not None
        return self.program.pid

    @property
    def code(self) -> int | None:
        assert self.program is not None
        return self.program.code

    @property
    def has_fallen(self) -> bool:
        """It has ended, and nobody wanted it to."""
        return not self.is_to_end and self.code is not None

    @property
    def frozen(self) -> bool:
        return frozen(self.pid)

    def log(self) -> str:
        assert self.program is not None
        return self.program.log()

    async def killed(self) -> None:
        """At once, and it is gone when this returns."""
        assert self.program is not None
        self.is_to_end = True
        self.program.kill()
        await self.program.wait()

    async def ended(self, within: float) -> int:
        """Told to end, as an operator does; its exit status."""
        assert self.program is not None
        self.is_to_end = True
        self.program.terminate()
        return await self.program.wait(within)

    async def __aenter__(self) -> Self:
        await self.start()
        await self.up()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.program is not None:
            self.is_to_end = True
            if self.code is None:
                send(self.pid, signal.SIGCONT)
            await self.program.__aexit__(kind, error, traceback)
