"""The answer's end and failure, as the bytes that an ASGI server is given."""

from typing import Any

import pytest

from shared.answer import Answer
from shared.errors import EngineFailed

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
