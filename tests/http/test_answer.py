"""The answer's end and failure, as the bytes that an ASGI server is given."""

import asyncio
from typing import Any

import pytest

from shared.answer import Answer
from shared.errors import EngineFailed
from shared.headers import Headers

EVENTS = [(b"content-type", b"text/event-stream")]
ERROR = EngineFailed("It died.", code="engine_died")


async def sent(*chunks: bytes) -> bytes:
    """An event stream of these chunks that fails then."""
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    answer = Answer(send)
    await answer.begin(200, EVENTS)
    for chunk in chunks:
        await answer.chunk(chunk)
    await answer.fail(ERROR)
    return b"".join(message.get("body", b"") for message in messages)


@pytest.mark.parametrize(
    "whole", [[], [b"data: 1\n\n"], [b"data: 1\n", b"\n"], [b"data: 1\r\n\r", b"\n"]]
)
async def test_an_error_follows_a_whole_event_at_once(whole: list[bytes]) -> None:
    assert await sent(*whole) == b"".join(whole) + ERROR.event()


@pytest.mark.parametrize("half", [[b"data: {"], [b"data: 1\n"], [b"data: 1\n\n", b"x"]])
async def test_an_event_that_was_cut_off_does_not_swallow_the_error(half: list[bytes]) -> None:
    assert await sent(*half) == b"".join(half) + b"\n\n" + ERROR.event()


async def test_an_event_that_was_cut_off_while_its_client_took_nothing_swallows_no_error() -> None:
    messages: list[Any] = []
    taken = asyncio.Event()
    taken.set()

    async def send(message: Any) -> None:
        await taken.wait()
        messages.append(message)

    answer = Answer(send)
    await answer.begin(200, EVENTS)
    await answer.chunk(b'data: {"half')
    taken.clear()
    rest = asyncio.ensure_future(answer.chunk(b'"}\n\n'))
    await asyncio.sleep(0)  # it waits for the client now
    rest.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rest
    taken.set()
    await answer.fail(ERROR)
    sent = b"".join(message.get("body", b"") for message in messages)
    assert sent == b'data: {"half\n\n' + ERROR.event()


PLAIN = [(b"content-type", b"application/json")]
CODED = [*EVENTS, (b"content-encoding", b"gzip")]


@pytest.mark.parametrize(
    ("headers", "said", "done"),
    [
        (EVENTS, b"data: 1\n\ndata: [DONE]\n\n", True),
        (EVENTS, b"data:[DONE]\r\n\r\n", True),
        (EVENTS, b"data: 1\n\n", False),
        (EVENTS, b"", False),
        (PLAIN, b"{", True),
        (CODED, b"\x1f", True),
    ],
)
async def test_an_event_stream_is_done_when_it_says_so_and_of_all_else_nobody_knows(
    headers: Headers, said: bytes, done: bool
) -> None:
    async def send(message: Any) -> None:
        pass

    answer = Answer(send)
    await answer.begin(200, headers)
    await answer.chunk(said)
    assert answer.is_done is done


@pytest.mark.parametrize(("headers", "kept"), [(EVENTS, False), (PLAIN, True), (CODED, True)])
async def test_only_what_an_error_may_follow_does_not_say_how_long_it_is(
    headers: Headers, kept: bool
) -> None:
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    length = (b"content-length", b"9")
    await Answer(send).begin(200, [*headers, length])
    assert (length in messages[0]["headers"]) is kept
