"""The data plane's client: whom it connects to, what it keeps, and what it sends again."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from contextlib import suppress

import pytest
import trustme

from shared.wire import BrokenOff, ConnectFailed, Deadlines, Origin
from tests.harness import free_port, until
from tests.http.servers import LOOPS, Exchange, ask, pooled, server, whole

OK = b"HTTP/1.1 200 OK\r\n"
TWO = OK + b"Content-Length: 2\r\n\r\nhi"


@pytest.fixture(scope="module", params=LOOPS, ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


async def hi(exchange: Exchange) -> None:
    await exchange.say(TWO)


async def test_a_request_is_built_of_its_parts_alone() -> None:
    async with server(hi) as it, pooled() as pool:
        await whole(await ask(pool, it, b"body", headers=((b"x-a", b"b"),)))
    (exchange,) = it.exchanges
    host = b"host: 127.0.0.1:%d\r\n" % it.origin.port
    assert exchange.head == (
        b"POST /v1/x HTTP/1.1\r\n" + host + b"x-a: b\r\ncontent-length: 4\r\n\r\n"
    )
    assert exchange.body == b"body"


@pytest.mark.parametrize(
    "header",
    [
        (b"x", b"a\r\nevil: 1"),
        (b"x", b"a\nevil: 1"),
        (b"x", b"a\rb"),
        (b"x\r\nevil", b"1"),
        (b"x", b"\0"),
    ],
)
async def test_no_header_can_become_two(header: tuple[bytes, bytes]) -> None:
    async with server(hi) as it, pooled() as pool:
        with pytest.raises(ValueError, match="line's end"):
            await ask(pool, it, headers=(header,))
    assert not it.exchanges


@pytest.mark.parametrize("target", [b"/a b", b"/a\r\nevil: 1", b"/\n", b"/\0"])
async def test_no_target_can_become_a_header(target: bytes) -> None:
    async with server(hi) as it, pooled() as pool:
        with pytest.raises(ValueError, match="line's end"):
            await pool.send(it.origin, b"POST", target, [], b"", Deadlines())
    assert not it.exchanges


async def test_requests_at_the_same_time_have_connections_of_their_own() -> None:
    together = asyncio.Barrier(3)

    async def say(exchange: Exchange) -> None:
        await together.wait()
        await exchange.say(TWO)

    async with server(say) as it, pooled() as pool:
        responses = await asyncio.gather(*(ask(pool, it) for _ in range(3)))
        for response in responses:
            await whole(response)
        assert it.connections == 3


async def test_an_answer_that_is_left_half_read_is_broken_off() -> None:
    async def say(exchange: Exchange) -> None:
        await exchange.say(OK + b"Content-Length: 9\r\n\r\nhi")

    async with server(say) as it, pooled() as pool:
        with await ask(pool, it) as response:
            await response.read()
        await until(lambda: it.open == 0)
        with await ask(pool, it):
            assert it.connections == 2


async def test_who_is_cancelled_before_the_answer_leaves_no_connection() -> None:
    asked = asyncio.Event()

    async def say(exchange: Exchange) -> None:
        asked.set()
        await exchange.gone()

    async with server(say) as it, pooled() as pool:
        asking = asyncio.ensure_future(ask(pool, it))
        await asked.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(lambda: it.open == 0)


async def test_an_answer_that_comes_before_its_request_was_sent_ends_the_connection() -> None:
    """What is left of the request would be taken for the next one."""

    async def early(exchange: Exchange) -> None:
        await exchange.say(TWO)
        if exchange.connection == 1:
            await exchange.gone()

    async with server(early) as it, pooled() as pool:
        large = b"x" * 2**24
        assert await whole(await ask(pool, it, large, headers=((b"x-unread", b"1"),))) == b"hi"
        assert await whole(await ask(pool, it)) == b"hi"
        assert [exchange.connection for exchange in it.exchanges] == [1, 2]


# Kept connections, and what is sent again.


async def test_an_idle_connection_is_closed_after_its_time() -> None:
    async with server(hi) as it, pooled(keepalive=0.05) as pool:
        await whole(await ask(pool, it))
        assert it.open == 1
        await until(lambda: it.open == 0)


async def test_nothing_is_kept_where_nothing_may_be() -> None:
    async with server(hi) as it, pooled(keepalive=0) as pool:
        await whole(await ask(pool, it))
        await whole(await ask(pool, it))
        assert it.connections == 2


async def test_closing_the_pool_ends_every_connection() -> None:
    async with server(hi) as it, pooled() as pool:
        await whole(await ask(pool, it))
        response = await ask(pool, it)
        pool.close()
        await until(lambda: it.open == 0)
        response.close()


async def test_a_request_on_a_kept_connection_that_was_just_closed_is_sent_again() -> None:
    async def once_a_connection(exchange: Exchange) -> None:
        if sum(other.connection == exchange.connection for other in it.exchanges) > 1:
            exchange.writer.close()
        else:
            await exchange.say(TWO)

    async with server(once_a_connection) as it, pooled() as pool:
        assert await whole(await ask(pool, it)) == b"hi"
        assert await whole(await ask(pool, it, b"again")) == b"hi"
    assert [(e.connection, e.body) for e in it.exchanges] == [
        (1, b"{}"),
        (1, b"again"),
        (2, b"again"),
    ]


async def test_what_closes_a_new_connection_is_not_asked_again() -> None:
    async def never(exchange: Exchange) -> None:
        exchange.writer.close()

    async with server(never) as it, pooled() as pool:
        with pytest.raises(BrokenOff):
            await ask(pool, it)
    assert len(it.exchanges) == 1


async def test_a_request_that_was_answered_by_a_byte_is_not_sent_again() -> None:
    async def half(exchange: Exchange) -> None:
        if len(it.exchanges) == 1:
            await exchange.say(TWO)
        else:
            await exchange.say(b"H")
            exchange.writer.close()

    async with server(half) as it, pooled() as pool:
        await whole(await ask(pool, it))
        with pytest.raises(BrokenOff):
            await ask(pool, it)
    assert len(it.exchanges) == 2


async def test_a_server_that_dies_of_a_kept_connections_request_broke_it_off() -> None:
    """It was not unreachable when it was asked: the request may be what it died of."""

    async def dies_of_the_second(exchange: Exchange) -> None:
        if len(it.exchanges) == 1:
            await exchange.say(TWO)
        else:
            it.stop_listening()
            exchange.writer.close()

    async with server(dies_of_the_second) as it, pooled() as pool:
        await whole(await ask(pool, it))
        with pytest.raises(BrokenOff):
            await ask(pool, it)


# Connecting.


async def test_a_server_that_is_not_there_has_not_seen_the_request() -> None:
    async with pooled() as pool:
        with pytest.raises(ConnectFailed):
            await pool.send(Origin("127.0.0.1", free_port()), b"GET", b"/", [], b"", Deadlines())


async def test_a_server_that_takes_no_connections_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as first:
        first.connect(full.getsockname())  # the line is full: Linux answers no one else
        origin = Origin("127.0.0.1", full.getsockname()[1])
        async with pooled() as pool:
            with pytest.raises(ConnectFailed, match="within"):
                await pool.send(origin, b"GET", b"/", [], b"", Deadlines(connect=0.05))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


async def test_a_server_is_spoken_to_by_TLS(authority: trustme.CA) -> None:
    context, trusted = (
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH),
        ssl.create_default_context(),
    )
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(trusted)
    async with server(hi, context) as it, pooled() as pool:
        it.origin = Origin.of(f"https://127.0.0.1:{it.origin.port}", trusted)
        for _ in range(2):
            assert await whole(await ask(pool, it)) == b"hi"
        assert it.connections == 1


async def test_a_server_that_nobody_vouches_for_gets_no_request(authority: trustme.CA) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with server(hi, context) as it, pooled() as pool:
        it.origin = Origin.of(f"https://127.0.0.1:{it.origin.port}")
        with pytest.raises(ConnectFailed, match="certificate"):
            await ask(pool, it)
    assert not it.exchanges


# Many at once.


async def test_those_who_leave_never_leave_their_answer_to_others() -> None:
    """A storm of requests on shared connections, of which some are given up at any moment."""
    chance = random.Random(6)

    async def echo(exchange: Exchange) -> None:
        await exchange.say(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        for byte in exchange.body:
            await exchange.say(b"1\r\n%c\r\n" % byte)
            await asyncio.sleep(0)
        await exchange.say(b"0\r\n\r\n")

    async def client(n: int) -> None:
        for turn in range(20):
            nonce = b"%d-%d;" % (n, turn)
            asking = asyncio.ensure_future(asked(nonce))
            if chance.random() < 0.4:
                await asyncio.sleep(chance.random() * 0.005)
                asking.cancel()
            with suppress(asyncio.CancelledError):
                assert await asking == nonce

    async def asked(nonce: bytes) -> bytes:
        return await whole(await ask(pool, it, nonce))

    async with server(echo) as it, pooled() as pool:
        await asyncio.gather(*(client(n) for n in range(16)))
        assert await whole(await ask(pool, it, b"last")) == b"last"
