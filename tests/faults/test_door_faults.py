"""F54: a fault of the door itself, which is no fault of its client."""

import asyncio
from typing import Any, NoReturn

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from shared.door import Door
from tests.faults.doors import call


class Broken(dict[str, Any]):
    """A state of an application that no request can have a copy of."""

    def copy(self) -> NoReturn:
        raise LookupError


async def nothing(scope: object, receive: object, send: object) -> None:
    raise AssertionError


async def test_f54_a_fault_of_the_door_is_told_as_one_and_logged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config, loop = Config(nothing), asyncio.get_running_loop()
    server = await loop.create_server(lambda: Door(config, ServerState(), Broken()), "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        async with call(f"http://{host}:{port}") as it:
            it.say(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert await it.refused() == (500, "internal_error")
    said = capsys.readouterr()
    assert "LookupError" in said.out + said.err
