"""The client of the control plane, at servers that end every connection as soon as it is made."""

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import httpx
import pytest
import uvloop

from shared import control

AT_ONCE, TIMES = 20, 20


@contextmanager
def resetting() -> Iterator[str]:
    """In a thread of its own: it must be as quick as the client."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Thread(target=reset_all, args=(listener,))
        server.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            server.join()


def reset_all(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        linger = struct.pack("ii", 1, 0)  # on, for 0 s: closing it is a reset
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.close()


async def ends(url: str) -> set[type[BaseException]]:
    async with control.client() as http:
        found: set[type[BaseException]] = set()
        for _ in range(TIMES):
            asked = (http.get(url) for _ in range(AT_ONCE))
            answers = await asyncio.gather(*asked, return_exceptions=True)
            found |= {type(answer) for answer in answers if isinstance(answer, BaseException)}
        return found


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_connection_that_is_reset_as_it_is_made_is_an_error_of_http(loop: object) -> None:
    with resetting() as url, asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]
        found = runner.run(ends(url))
    assert found
    assert all(issubclass(one, httpx.HTTPError) for one in found)
