"""What a container's health check says of a program."""

import asyncio
import sys
from pathlib import Path

from tests.fakes.box import FakeBox
from tests.harness import ROOT, Program, free_port, router
from tests.http.yards import FACTS, answers

HEALTH = ROOT / "deploy" / "image" / "health.py"


async def health(tmp: Path, *urls: str) -> int:
    proxy = {"http_proxy": "http://127.0.0.1:1"}  # never asked
    async with Program([sys.executable, str(HEALTH), *urls], tmp, env=proxy) as it:
        code = await it.wait()
        assert it.log() == ""
        return code


async def test_a_program_is_well_if_one_of_its_addresses_says_so(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    async with FakeBox("box1", FACTS, answers) as box:
        text = f"sidecars: [{{url: '{nobody}'}}]"
        async with router(tmp_path, text) as it:
            assert await health(tmp_path, f"{nobody}/healthz") == 1
            assert await health(tmp_path, f"{nobody}/healthz", f"{it.url}/healthz") == 0
            assert await health(tmp_path, f"{it.url}/readyz") == 1  # it hears no box
            assert await health(tmp_path, f"{box.url}/models") == 0


async def test_who_answers_something_else_is_not_well(tmp_path: Path) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"babble\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await health(tmp_path, f"http://127.0.0.1:{port}/healthz") == 1
