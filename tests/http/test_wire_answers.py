"""The data plane's client reads every answer to exactly its end, and keeps no dirty connection."""

from __future__ import annotations

import asyncio

import pytest

from shared.connection import LARGEST_HEAD, READ
from shared.response import HIGH_WATER
from shared.wire import BrokenOff, Deadlines, Silent
from tests.harness import until
from tests.http.servers import LOOPS, Exchange, Says, ask, pooled, server, whole

OK = b"HTTP/1.1 200 OK\r\n"
TWO = OK + b"Content-Length: 2\r\n\r\nhi"


@pytest.fixture(scope="module", params=LOOPS, ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


def says(*pieces: bytes, then: str = "") -> Says:
    async def say(exchange: Exchange) -> None:
        await exchange.say(*pieces)
        if then == "close":
            exchange.writer.close()
        elif then == "reset":
            exchange.reset()

    return say


KEPT = {  # what a server says, and the body that it means
    "a length": (TWO, b"hi"),
    "a length of nothing": (OK + b"Content-Length: 0\r\n\r\n", b""),
    "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1;x=y\r\ni\r\n0\r\n\r\n", b"hi"),
    "trailers": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n",
        b"hi",
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b""),
    "continue": (b"HTTP/1.1 100 Continue\r\n\r\n" + TWO, b"hi"),
    "early hints": (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + TWO, b"hi"),
    "1.0 that stays": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
        b"hi",
    ),
}
CLOSED = {
    "it says so": (OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi", b"hi"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hi"),
    "more than was asked for": (TWO + TWO, b"hi"),
    "rubbish behind it": (TWO + b"\0\0\0", b"hi"),
}
BROKEN = {
    "half a length": OK + b"Content-Length: 4\r\n\r\nhi",
    "half a chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhi",
    "no last chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
    "an endless trailer": OK
    + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: "
    + b"y" * (2 * LARGEST_HEAD),
    "a chunk that is none": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nxyz\r\n",
}
NO_ANSWER = {
    "nothing": b"",
    "half a head": OK + b"Content-Le",
    "no HTTP": b"220 smtp.example ESMTP\r\n",
    "another protocol": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "only a preface": b"HTTP/1.1 100 Continue\r\n\r\n",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
    "a length and chunks": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
    "an endless head": OK + b"X-Long: y\r\n" * (LARGEST_HEAD // 8),
}


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize(("said", "meant"), KEPT.values(), ids=KEPT)
async def test_an_answer_that_ends_in_order_leaves_its_connection_to_the_next(
    said: bytes, meant: bytes, cut: bool
) -> None:
    pieces = [said[n : n + 1] for n in range(len(said))] if cut else [said]
    async with server(says(*pieces)) as it, pooled() as pool:
        for _ in range(3):
            assert await whole(await ask(pool, it)) == meant
    assert it.connections == 1


@pytest.mark.parametrize(("said", "meant"), CLOSED.values(), ids=CLOSED)
async def test_a_connection_that_is_not_as_good_as_new_is_closed(said: bytes, meant: bytes) -> None:
    async with server(says(said)) as it, pooled() as pool:
        for _ in range(2):
            assert await whole(await ask(pool, it)) == meant
        assert it.connections == 2
        await until(lambda: it.open == 0)


@pytest.mark.parametrize("said", BROKEN.values(), ids=BROKEN)
async def test_half_an_answer_is_read_as_far_as_it_goes_and_then_is_an_error(said: bytes) -> None:
    async with server(says(said, then="close")) as it, pooled() as pool:
        with await ask(pool, it) as response:
            assert await response.read() == b"hi"
            with pytest.raises(BrokenOff):
                await response.read()


@pytest.mark.parametrize("said", NO_ANSWER.values(), ids=NO_ANSWER)
async def test_what_is_no_answer_is_an_error(said: bytes) -> None:
    async with server(says(said, then="close")) as it, pooled() as pool:
        with pytest.raises(BrokenOff):
            await ask(pool, it)


async def test_an_answer_without_a_frame_ends_with_its_connection_and_says_so() -> None:
    async with server(says(OK + b"\r\nh", b"i", then="close")) as it, pooled() as pool:
        response = await ask(pool, it)
        assert not response.framed
        assert await whole(response) == b"hi"


async def test_an_answer_without_a_frame_that_is_reset_is_not_whole() -> None:
    at_once = asyncio.Event()

    async def say(exchange: Exchange) -> None:
        await exchange.say(OK + b"\r\nhi")
        await at_once.wait()
        exchange.reset()

    async with server(say) as it, pooled() as pool:
        with await ask(pool, it) as response:
            assert await response.read() == b"hi"
            at_once.set()
            with pytest.raises(BrokenOff):
                await response.read()


async def test_the_answer_to_a_HEAD_has_no_body_whatever_its_length() -> None:
    async with server(says(OK + b"Content-Length: 9\r\n\r\n")) as it, pooled() as pool:
        response = await ask(pool, it, method=b"HEAD")
        assert (response.get(b"content-length"), await whole(response)) == (b"9", b"")


async def test_headers_are_in_lower_case_and_trailers_are_none_of_them() -> None:
    async with server(says(KEPT["trailers"][0])) as it, pooled() as pool:
        response = await ask(pool, it)
        await whole(response)
        assert response.headers == [(b"transfer-encoding", b"chunked")]


# Those who read slowly, and those who say nothing.


async def test_what_nobody_reads_is_not_taken_from_the_server() -> None:
    """At most one read beyond the mark: the rest waits in the kernel, and then at the server."""
    body = b"x" * 2**25
    written = 0

    async def say(exchange: Exchange) -> None:
        nonlocal written
        await exchange.say(OK + b"Content-Length: %d\r\n\r\n" % len(body))
        for at in range(0, len(body), READ):
            await exchange.say(body[at : at + READ])
            written = at + READ

    async with server(say) as it, pooled() as pool:
        with await ask(pool, it) as response:
            seen = -1

            async def held_up() -> bool:
                """the server can write no more"""
                nonlocal seen
                before, seen = seen, written
                await asyncio.sleep(0.02)
                return before == seen == written

            await until(held_up)
            assert written < len(body)
            assert len(await response.read()) <= HIGH_WATER + READ
            rest = 0
            while piece := await response.read():
                assert len(piece) <= HIGH_WATER + READ
                rest += len(piece)
            assert rest > written - HIGH_WATER - READ


async def silent(exchange: Exchange) -> None:
    await exchange.gone()


async def half_silent(exchange: Exchange) -> None:
    await exchange.say(OK + b"Content-Length: 3\r\n\r\nhi")
    await exchange.gone()


async def test_a_server_that_never_begins_to_answer_is_given_up() -> None:
    async with server(silent) as it, pooled() as pool:
        with pytest.raises(Silent) as error:
            await ask(pool, it, deadlines=Deadlines(first_byte=0.05))
        assert error.value.limit == 0.05
        await until(lambda: it.open == 0)


async def test_a_server_that_falls_silent_in_its_answer_is_given_up() -> None:
    async with server(half_silent) as it, pooled() as pool:
        deadlines = Deadlines(first_byte=60, idle=0.05)
        with await ask(pool, it, deadlines=deadlines) as response:
            assert await response.read() == b"hi"
            with pytest.raises(Silent) as error:
                await response.read()
        assert error.value.limit == 0.05


async def test_an_answer_that_goes_on_is_never_silent_however_long_it_is() -> None:
    async def say(exchange: Exchange) -> None:
        await exchange.say(OK + b"Content-Length: 8\r\n\r\n")
        for _ in range(8):
            await asyncio.sleep(0.25)  # in all twice the limit
            await exchange.say(b"x")

    async with server(say) as it, pooled() as pool:
        response = await ask(pool, it, deadlines=Deadlines(first_byte=5, idle=1))
        assert len(await whole(response)) == 8


async def test_the_silence_of_who_does_not_read_is_not_the_servers() -> None:
    body = b"x" * 2**22
    head = OK + b"Content-Length: %d\r\n\r\n" % len(body)
    async with server(says(head, body)) as it, pooled() as pool:
        response = await ask(pool, it, deadlines=Deadlines(idle=0.05))
        await asyncio.sleep(0.2)  # four times what a server may be silent
        assert len(await whole(response)) == len(body)
