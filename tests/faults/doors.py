"""What tests of the door share: raw bytes over a socket, and a program whose limits a test sets.

Rule: nothing here knows HTTP's rules but for where an answer ends; what is sent is what is written.
"""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from tests.harness import ROOT, Program, free_port, until

SERVED = ROOT / "tests" / "fakes" / "served.py"
END = 10.0  # seconds: nothing here takes longer
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [\w -]*\r\n")


@dataclass
class Caller:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), END)

    async def answer(self) -> tuple[int, bytes]:
        """One with a Content-Length."""
        head = await self.head()
        (length,) = re.findall(rb"\r\ncontent-length: (\d+)\r\n", head)
        body = await asyncio.wait_for(self.reader.readexactly(int(length)), END)
        return status_in(head), body

    async def rest(self) -> bytes:
        """All that comes until the other side closes."""
        with suppress(ConnectionResetError):
            return await asyncio.wait_for(self.reader.read(), END)
        return b""

    async def refused(self) -> tuple[int, str]:
        """The status and the code of an error in OpenAI's shape, after which it closes."""
        head, _, body = (await self.rest()).partition(b"\r\n\r\n")
        assert b"\r\nconnection: close" in head
        assert b"\r\nx-should-retry: " in head
        error = json.loads(body)["error"]
        assert {"message", "type", "code", "param"} <= error.keys()
        return status_in(head), error["code"]


@asynccontextmanager
async def call(url: str) -> AsyncIterator[Caller]:
    at = urlsplit(url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    try:
        yield Caller(reader, writer)
    finally:
        writer.close()


def peers(program: Program) -> set[int]:
    """The ports of those who are connected."""
    every = psutil.Process(program.pid).net_connections("tcp")
    return {each.raddr.port for each in every if each.raddr}


def status_in(head: bytes) -> int:
    (status,) = STATUS.findall(head)
    return int(status)


def statuses(said: bytes) -> list[int]:
    return [int(status) for status in STATUS.findall(said)]


@dataclass(frozen=True)
class Served:
    """A running tests/fakes/served.py, and from where on its log is a test's own."""

    url: str
    program: Program
    since: int = 0

    def from_now_on(self) -> "Served":
        return replace(self, since=len(self.program.log()))

    def lines(self) -> list[str]:
        return self.program.log()[self.since :].splitlines()

    async def says(self, line: str, count: int = 1) -> None:
        def said() -> bool:
            return self.lines().count(line) >= count

        try:
            await until(said)
        except AssertionError as failure:
            failure.add_note(f"{count} of {line!r} in:\n{self.lines()}")
            raise

    def logged(self, event: str) -> list[dict[str, Any]]:
        said = [line for line in self.lines() if line.startswith("{")]
        return [line for line in map(json.loads, said) if line["event"] == event]


@asynccontextmanager
async def served(tmp: Path, **limits: float) -> AsyncIterator[Served]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    argv = [sys.executable, str(SERVED), str(port), json.dumps(limits)]
    async with Program(argv, tmp, env={"PYTHONPATH": str(ROOT)}) as program:

        async def up() -> bool:
            assert program.code is None, program.log()
            with suppress(OSError):
                async with call(url) as it:
                    it.say(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
                    return await it.answer() == (200, b"ok")
            return False

        await until(up)
        yield Served(url, program)
