"""F48, F50, F53: a client that is slow, silent or endless, at a program whose limits are short."""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from shared import head, patience
from shared.door import LINGER, PIPELINED, WRITE_BUFFER
from shared.patience import DEFAULT
from tests.faults.doors import Caller, Served, call, peers, served, statuses
from tests.harness import ROOT, until

HEAD = b"GET /healthz HTTP/1.1\r\nHost: a\r\n"
LENGTH = b"POST /%b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
SLOW = 50  # clients at a time


@pytest.fixture(scope="module")
async def one_hasty(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """A tenth of a second for all that comes in, and the real patience for all else."""
    tmp = tmp_path_factory.mktemp("hasty")
    async with served(tmp, head=0.1, body=0.1, idle=0.5, stall=0.5, linger=0.2) as server:
        yield server


@pytest.fixture(scope="module")
async def one_patient(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with served(tmp_path_factory.mktemp("patient")) as server:
        yield server


@pytest.fixture
def hasty(one_hasty: Served) -> Served:
    return one_hasty.from_now_on()


@pytest.fixture
def patient(one_patient: Served) -> Served:
    return one_patient.from_now_on()


def test_f53_the_limits_are_those_of_the_page_of_the_api() -> None:
    page = (ROOT / "docs" / "http-api.md").read_text(encoding="utf-8")
    for said in (
        f"| the head of a request, from its first byte on | {DEFAULT.head:g} s |",
        f"| the first byte on a new connection | {DEFAULT.head:g} s |",
        f"| {DEFAULT.body:g} s, and 1 s for each {patience.BODY_RATE // 2**10} KiB that has come;",
        f"| the next request on a connection | {DEFAULT.idle:g} s |",
        f"| the URL | {head.URL // 2**10} KiB |",
        f"| the head in all | {head.HEAD // 2**10} KiB, {head.HEADERS} headers |",
        f"| {patience.FRAMING // 2**10} KiB between two pieces of the body,",
        f"| requests that wait on one connection for the answers before theirs | {PIPELINED} |",
        f"| answers that wait for a client | {WRITE_BUFFER // 2**10} KiB;",
        f"dropped after {DEFAULT.stall:g} s in which it took nothing |",
        f"thrown away for {DEFAULT.linger:g} s, and {LINGER // 2**20} MiB at most",
    ):
        assert said in page


async def callers(stack: contextlib.AsyncExitStack, url: str, count: int) -> list[Caller]:
    return [await stack.enter_async_context(call(url)) for _ in range(count)]


async def test_f53_slow_heads_are_answered_with_408_and_hold_up_nobody(hasty: Served) -> None:
    async with contextlib.AsyncExitStack() as stack:
        slow = await callers(stack, hasty.url, SLOW)
        for it in slow:
            it.say(HEAD)
        async with call(hasty.url) as good:
            good.say(HEAD + b"\r\n")
            assert await good.answer() == (200, b"ok")
        for it in slow:
            assert await it.refused() == (408, "request_timeout")


async def test_f53_a_head_that_comes_byte_by_byte_is_not_waited_for_any_longer(
    hasty: Served,
) -> None:
    async with call(hasty.url) as it:
        it.say(HEAD)
        said = asyncio.ensure_future(it.rest())
        for number in itertools.count():
            if said.done():
                break
            it.say(b"x" if number else b"X: ")
            await asyncio.wait({said}, timeout=0.01)
    assert statuses(await said) == [408]


async def test_f53_slow_bodies_are_answered_with_408_and_their_requests_given_up(
    hasty: Served,
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        slow = await callers(stack, hasty.url, SLOW)
        for it in slow:
            it.say(LENGTH % (b"echo", 10) + b"12345")
        for it in slow:
            assert await it.refused() == (408, "request_timeout")
    await hasty.says("left /echo", SLOW)


async def test_f53_a_connection_that_says_nothing_is_closed_without_a_word(hasty: Served) -> None:
    async with call(hasty.url) as it:
        assert await it.rest() == b""


async def test_f53_a_connection_that_is_not_used_again_is_closed(hasty: Served) -> None:
    async with call(hasty.url) as it:
        it.say(HEAD + b"\r\n")
        assert await it.answer() == (200, b"ok")
        assert await it.rest() == b""


async def test_f53_a_body_that_the_application_does_not_read_is_not_late(tmp_path: Path) -> None:
    """More than the door reads ahead: for what is still to come, nobody has asked."""
    size = 2**20
    async with served(tmp_path, body=0.2) as server, call(server.url) as it:
        it.say(LENGTH % (b"held", size))
        it.say(b"x" * (size // 2))
        await server.says("begun /held")
        async with call(server.url) as other:  # late by far, and still there
            other.say(LENGTH % (b"echo", 1))
            assert await other.refused() == (408, "request_timeout")
            async with call(server.url) as third:
                third.say(b"GET /let HTTP/1.1\r\nHost: a\r\n\r\n")
                await third.answer()
        it.say(b"x" * (size // 2))
        assert await it.answer() == (200, str(size).encode())


async def test_f53_a_refusal_comes_after_the_answers_before_it(hasty: Served) -> None:
    async with call(hasty.url) as it:
        it.say(HEAD + b"\r\n" + HEAD)
        assert statuses(await it.rest()) == [200, 408]


# What is too much.


async def test_f50_an_answer_before_the_end_of_a_body_is_the_last_of_its_connection(
    patient: Served,
) -> None:
    """The client hears it, although it goes on sending; and what it sends is no request."""
    hidden = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    async with call(patient.url) as it:
        it.say(LENGTH % (b"nowhere", 2**30))
        head = await it.head()
        assert b"HTTP/1.1 404 " in head
        assert b"\r\nconnection: close\r\n" in head
        it.say(b"x" * 2**20 + hidden)
        assert statuses(await it.rest()) == []


async def go_on(it: Caller) -> None:
    while True:
        it.say(b"x" * 2**16)
        await it.writer.drain()


async def test_f50_who_goes_on_sending_after_that_is_hung_up_on(hasty: Served) -> None:
    async with call(hasty.url) as it:
        it.say(LENGTH % (b"nowhere", 2**40))
        await it.head()
        with pytest.raises(ConnectionError):
            await go_on(it)


async def test_f50_who_is_silent_after_that_is_hung_up_on(hasty: Served) -> None:
    async with call(hasty.url) as it:
        _, port = it.writer.get_extra_info("sockname")
        it.say(LENGTH % (b"nowhere", 10))
        assert statuses(await it.rest()) == [404]
        await until(lambda: port not in peers(hasty.program))


async def test_f50_a_request_behind_such_an_answer_is_never_begun(patient: Served) -> None:
    """Its body came while it was answered, and with it another request."""
    async with call(patient.url) as it, call(patient.url) as other:
        it.say(LENGTH % (b"early", 2))
        head = await it.head()
        assert b"\r\nconnection: close\r\n" in head
        it.say(b"{}GET /waiting HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await it.rest() == b"4\r\nread\r\n0\r\n\r\n"
        other.say(HEAD + b"\r\n")
        await other.answer()
    assert "begun /waiting" not in patient.lines()


async def test_f50_what_is_thrown_away_takes_no_memory(patient: Served) -> None:
    process = psutil.Process(patient.program.pid)
    async with call(patient.url) as it:
        before = process.memory_info().rss
        it.say(LENGTH % (b"nowhere", 2**40))
        await it.head()
        for _ in range(32):
            it.say(b"x" * 2**20)
            await it.writer.drain()
        assert process.memory_info().rss - before < 4 * 2**20


async def test_f50_a_client_that_asks_first_is_told_to_go_on_when_its_body_is_read(
    patient: Served,
) -> None:
    expecting = b"POST /%b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    async with call(patient.url) as it:
        it.say(expecting % b"echo")
        assert await it.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        it.say(b"ok")
        assert await it.answer() == (200, b"ok")
    async with call(patient.url) as it:
        it.say(expecting % b"nowhere")
        assert (await it.head()).startswith(b"HTTP/1.1 404 ")


# Who takes nothing.


async def test_f48_a_client_that_takes_nothing_is_dropped_and_no_other(hasty: Served) -> None:
    async with call(hasty.url) as good, call(hasty.url) as bad:
        for it in (good, bad):
            it.say(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n")
        bad.writer.transport.pause_reading()  # type: ignore[attr-defined]

        async def dropped() -> bool:
            await good.reader.readexactly(2**20)
            return "left /flood" in hasty.lines()

        await until(dropped)
        assert len(hasty.logged("dropped a client that takes nothing")) == 1
        assert await good.reader.readexactly(2**20)
    await hasty.says("left /flood", 2)


async def test_f48_a_client_that_takes_a_little_at_a_time_is_not_dropped(hasty: Served) -> None:
    """In four times as long as one is waited for that takes nothing, less than the kernel would
    hold of an answer by itself."""
    loop, url = asyncio.get_running_loop(), urlsplit(hasty.url)
    with socket.socket() as it:
        it.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**15)  # or its own would hide its pace
        it.setblocking(False)
        await loop.sock_connect(it, (url.hostname, url.port))
        await loop.sock_sendall(it, b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n")
        end = loop.time() + 4 * 0.5
        while loop.time() < end:
            assert await loop.sock_recv(it, 2**13)
            await asyncio.sleep(0.02)  # its pace
        assert "left /flood" not in hasty.lines()
    await hasty.says("left /flood")


async def test_f48_an_application_that_goes_on_for_one_that_has_left_holds_up_nobody(
    patient: Served,
) -> None:
    for _ in range(50):
        async with call(patient.url) as it:
            it.say(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n")
            await it.reader.readexactly(2**18)
    await patient.says("left /flood", 50)


async def test_f48_what_waits_for_a_client_that_takes_nothing_is_bounded(patient: Served) -> None:
    process = psutil.Process(patient.program.pid)
    async with contextlib.AsyncExitStack() as stack:
        before = process.memory_info().rss
        slow = await callers(stack, patient.url, SLOW)
        for it in slow:
            it.writer.transport.pause_reading()  # type: ignore[attr-defined]
            it.say(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n")
        await patient.says("begun /flood", SLOW)
        async with call(patient.url) as good:
            good.say(HEAD + b"\r\n")
            assert await good.answer() == (200, b"ok")
        assert process.memory_info().rss - before < SLOW * 256 * 1024
