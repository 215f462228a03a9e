"""F46, F58: how the door notices that a client has left, and what the application hears of it."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from functools import partial

import httpx
import pytest

from shared.program import Program
from shared.serve import NOT_SENT, listen
from tests.e2e.pair import chat
from tests.faults.doors import Served, call, served, statuses
from tests.faults.streams import CHAT, Yard, engine, yard
from tests.harness import free_port, until

GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
async def one(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with served(tmp_path_factory.mktemp("served")) as it:
        yield it


@pytest.fixture
def server(one: Served) -> Served:
    return one.from_now_on()


@pytest.mark.parametrize("path", ["/waiting", "/streaming"])
async def test_f46_who_closes_its_half_of_the_connection_has_left(
    server: Served, path: str
) -> None:
    """In every state: before an answer has begun, and in it."""
    async with call(server.url) as it:
        it.say(GET % path.encode())
        await server.says(f"begun {path}")
        it.writer.write_eof()
        await server.says(f"left {path}")
        await it.rest()


@pytest.mark.parametrize("path", ["/waiting", "/streaming"])
async def test_f46_a_connection_that_is_reset_is_a_client_that_has_left(
    server: Served, path: str
) -> None:
    async with call(server.url) as it:
        it.say(GET % path.encode())
        await server.says(f"begun {path}")
        it.writer.transport.abort()
        await server.says(f"left {path}")


async def test_f46_who_leaves_in_mid_body_has_left(server: Served) -> None:
    async with call(server.url) as it:
        it.say(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123")
        await server.says("begun /echo")
    await server.says("left /echo")


async def test_f46_who_leaves_after_its_answer_has_not_left_its_request(server: Served) -> None:
    """Half-closed right behind a request that is answered at once: it may or may not be heard, but
    nothing is told twice."""
    async with call(server.url) as it:
        it.say(GET % b"/healthz")
        await it.answer()
        it.writer.write_eof()
        assert await it.rest() == b""
    assert [line for line in server.lines() if line.startswith("left")] == []


async def test_f46_those_who_wait_behind_a_request_are_never_begun_when_their_client_leaves(
    server: Served,
) -> None:
    async with call(server.url) as it:
        it.say(GET % b"/waiting" + GET % b"/streaming" + GET % b"/waiting")
        await server.says("begun /waiting")
    await server.says("left /waiting")
    assert server.lines().count("begun /streaming") == 0
    assert server.lines().count("begun /waiting") == server.lines().count("left /waiting") == 1


# Of the real programs, who have read the whole of a body that was larger than what is read ahead.


@pytest.fixture(scope="module")
async def it(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    """`busy` has one slot, which its first client keeps; `prefill` never says its first word."""
    folder = tmp_path_factory.mktemp("large")
    silent = ("--first-token-seconds", "3600")
    models = engine(folder, "busy", *silent, more=", slots: 1") + engine(folder, "prefill", *silent)
    async with yard(folder, models) as it:
        for model in ("busy", "prefill"):  # loaded before the first test looks what is left behind
            writer = await large(it, model, stream=True)
            await until(partial(it.noted, model, "request"))
            writer.close()
            await it.idle(model)
        yield it


async def large(it: Yard, model: str, stream: bool) -> asyncio.StreamWriter:
    """A client that has sent 300 KiB, in two pieces."""
    url = httpx.URL(it.pair.router.url)
    _, writer = await asyncio.open_connection(url.host, url.port)
    asked = {**chat(model, stream=stream), "user": "x" * 300 * 2**10}
    said = json.dumps(asked).encode()
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
    writer.write(head % (CHAT.encode(), len(said)) + said[: 2**16])
    await writer.drain()
    await asyncio.sleep(0.05)  # so that it is not read together
    writer.write(said[2**16 :])
    await writer.drain()
    return writer


@pytest.mark.parametrize("stream", [True, False])
async def test_f46_who_sent_a_large_body_and_leaves_before_the_first_byte_is_heard(
    it: Yard, stream: bool
) -> None:
    begun, gone = (len(it.noted("prefill", event)) for event in ("request", "gone"))
    writer = await large(it, "prefill", stream)
    await until(lambda: len(it.noted("prefill", "request")) > begun)
    writer.close()
    await until(lambda: len(it.noted("prefill", "gone")) > gone)
    await it.idle("prefill")


@pytest.mark.parametrize("stream", [True, False])
async def test_f46_who_sent_a_large_body_and_leaves_the_line_is_heard(
    it: Yard, stream: bool
) -> None:
    async def waiting(count: int) -> None:
        async def counted() -> bool:
            return bool((await it.of("busy"))["waiting"] == count)

        await until(counted)

    begun = len(it.noted("busy", "request"))
    first = await large(it, "busy", stream)
    await until(lambda: len(it.noted("busy", "request")) > begun)
    second = await large(it, "busy", stream)
    await waiting(1)
    second.close()
    await waiting(0)
    first.close()
    await it.idle("busy")
    assert len(it.noted("busy", "request")) == begun + 1


def test_f46_a_peer_that_vanishes_is_looked_for() -> None:
    """What the kernel does for each connection that is accepted."""
    port = free_port()
    config = Program.model_validate({"listen": f"127.0.0.1:{port}"})
    with listen(config) as listener, socket.create_connection(("127.0.0.1", port)):
        accepted, _ = listener.accept()
        with accepted:
            options = {
                name: accepted.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
            }
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == NOT_SENT
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert options == {
        "TCP_KEEPIDLE": 15,
        "TCP_KEEPINTVL": 5,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": 60_000,
    }


# HTTP's corners, with an application that shows what reached it.


async def test_f58_an_old_client_gets_no_chunks_and_the_end_is_the_end(server: Served) -> None:
    async with call(server.url) as it:
        it.say(b"GET /streaming HTTP/1.0\r\n\r\n")
        head = await it.head()
        assert b"transfer-encoding" not in head
        assert b"\r\nconnection: close\r\n" in head
        assert await it.reader.readexactly(5) == b"first"


async def test_f58_an_upgrade_is_ignored_and_the_body_read(server: Served) -> None:
    """As Java's own client asks for HTTP/2, with its first request."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
    asked = b"POST /echo HTTP/1.1\r\n%bHost: a\r\nContent-Length: 300000\r\n\r\n" % offer
    async with call(server.url) as it:
        for cut in (len(asked), len(asked) - 10, len(asked) + 10):
            sent = asked + b"x" * 300_000
            it.say(sent[:cut])
            await it.writer.drain()
            it.say(sent[cut:])
            assert await it.answer() == (200, b"x" * 300_000)


async def test_f54_trailers_never_become_headers(server: Served) -> None:
    async with call(server.url) as it:
        it.say(b"POST /tell HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        it.say(b"0\r\nAuthorization: Bearer evil\r\n\r\n")
        assert await it.answer() == (200, b"host: a\ntransfer-encoding: chunked")


async def test_f58_a_hundred_requests_on_one_connection(server: Served) -> None:
    async with call(server.url) as it:
        for size in range(100):
            it.say(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
            it.say(b"x" * size)
            assert await it.answer() == (200, b"x" * size)
        it.say(GET % b"/healthz" + b"GET / HTTP/1.1\r\n\r\n")
        assert statuses(await it.rest()) == [200, 400]
