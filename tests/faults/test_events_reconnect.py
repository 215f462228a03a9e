"""What a router makes of a box's events when their stream breaks: a gap, a repetition, a box that
takes connections and ends them.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from shared.status import Phase
from tests.fakes.box import FakeBox
from tests.harness import client, router, until
from tests.http.yards import CHAT, FACTS, answers

LOOKS = 5  # at the way in which a router comes back
FIRST_PAUSE = 0.05  # seconds: half of the first one, which is the least that chance makes of it


@pytest.fixture
async def box() -> AsyncIterator[FakeBox]:
    async with FakeBox("box1", FACTS, answers) as box:
        yield box


@pytest.fixture
async def http(tmp_path: Path, box: FakeBox) -> AsyncIterator[httpx.AsyncClient]:
    text = f"sidecars: [{{url: '{box.url}'}}]\nprogress: {{interval: 100ms}}"
    async with router(tmp_path, text) as server, client(server.url, timeout=30) as http:
        await until(lambda: seq_heard(http, box))
        yield http


async def seq_heard(http: httpx.AsyncClient, box: FakeBox) -> bool:
    """the router knows the box's newest Status"""
    (known,) = (await http.get("/api/fleet")).json()["boxes"]
    return bool(known["live"] and known["seq"] == box.status.seq)


async def test_f67_after_a_gap_the_newest_status_holds(
    http: httpx.AsyncClient, box: FakeBox
) -> None:
    box.mute = True
    box.end_events()
    for phase in (Phase.STARTING, Phase.READY, Phase.STOPPING, Phase.READY):
        box.say("cold", phase=phase)  # nobody hears the first three
    box.mute = False
    box.say("cold")
    await until(lambda: seq_heard(http, box))
    answer = await http.post(CHAT, json={"model": "cold", "stream": True})
    assert answer.content.endswith(b"data: [DONE]\n\n")


async def test_f67_a_status_that_comes_again_changes_nothing(
    http: httpx.AsyncClient, box: FakeBox
) -> None:
    asking = asyncio.ensure_future(http.post(CHAT, json={"model": "cold", "stream": True}))
    await until(lambda: box.waiting("cold") == 1)
    for _ in range(2):
        box.end_events()
        await until(lambda: seq_heard(http, box))
    assert box.exchanges == []
    box.say("cold", phase=Phase.READY)
    assert (await asking).content.endswith(b"data: [DONE]\n\n")
    assert len(box.exchanges) == 1


async def test_f67_a_box_that_was_started_anew_counts_from_the_beginning(
    http: httpx.AsyncClient, box: FakeBox
) -> None:
    for _ in range(5):
        box.say("cold", phase=Phase.STARTING)
    await until(lambda: seq_heard(http, box))
    box.end_events()
    box.status = replace(box.status, boot="boot-2", seq=0)
    box.say("cold", phase=Phase.READY)
    await until(lambda: seq_heard(http, box))
    answer = await http.post(CHAT, json={"model": "cold", "stream": True})
    assert answer.content.endswith(b"data: [DONE]\n\n")


class Turnstile:
    """Takes each watcher of events, says `says`, and ends the connection at once."""

    def __init__(self, says: bytes) -> None:
        self._says = says
        self.watched: list[float] = []  # when

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"/models/events" in await reader.readuntil(b"\r\n\r\n"):
            self.watched.append(time.monotonic())
            writer.write(self._says)
        writer.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


@pytest.mark.parametrize("says", [b"", HEAD], ids=["closes", "begins and closes"])
async def test_f67_a_box_that_takes_connections_and_ends_them_is_asked_ever_more_seldom(
    tmp_path: Path, says: bytes
) -> None:
    turnstile = Turnstile(says)
    server = await asyncio.start_server(turnstile.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    text = f"sidecars: [{{url: 'http://127.0.0.1:{port}'}}]"
    async with router(tmp_path, text):
        await until(lambda: len(turnstile.watched) == LOOKS)
    server.close()
    pauses = [later - sooner for sooner, later in itertools.pairwise(turnstile.watched)]
    least = [FIRST_PAUSE * 2**number for number in range(LOOKS - 1)]
    assert [pause >= bound for pause, bound in zip(pauses, least, strict=True)] == [True] * 4
