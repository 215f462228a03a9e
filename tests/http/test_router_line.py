"""Who waits at the router, for how long, and what becomes of those who leave or are sent away."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from shared.demand import TTL
from shared.status import Phase
from tests.fakes.box import Engine, Exchange, FakeBox
from tests.harness import Program, client, frames, router, until
from tests.http.yards import CHAT, FACTS, Yard, answers, error_in, error_of, told, yard

GRACE = 0.4  # seconds
MAX_WAIT = 1.0
Record = Callable[[str, object], None]
SETTINGS = {"box_grace": GRACE, "queue": {"max_waiting": 2, "max_wait": MAX_WAIT}}


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    async with yard(tmp_path_factory.mktemp("router"), **SETTINGS) as it:
        yield it


@pytest.fixture
async def it(shared: Yard) -> Yard:
    shared.reset()
    await shared.ready()
    return shared


# Limits.


async def test_a_full_line_says_so_at_once(it: Yard) -> None:
    waiting = [await it.ask("cold"), await it.ask("cold")]
    response = await it.ask("cold", stream=False)
    error = error_of(response)
    assert (response.status_code, error["code"]) == (503, "queue_full")
    assert int(response.headers["retry-after"]) >= 1
    assert response.headers["x-should-retry"] == "true"
    for each in waiting:
        await each.aclose()
    await until(lambda: it.box.waiting("cold") == 0)
    assert (await it.ask("warm", stream=False)).status_code == 200


async def test_who_has_waited_too_long_is_told_so(it: Yard) -> None:
    began = time.monotonic()
    streaming = await it.ask("cold")
    response = await it.ask("cold", stream=False)
    assert MAX_WAIT <= time.monotonic() - began < MAX_WAIT + 1
    assert (response.status_code, error_of(response)["code"]) == (504, "queue_timeout")
    assert (await error_in(streaming))["code"] == "queue_timeout"
    await until(lambda: it.box.waiting("cold") == 0)


# Boxes that are lost.


async def test_while_a_box_is_lost_its_requests_wait_and_then_are_told(it: Yard) -> None:
    began = time.monotonic()
    async with it.box.away():
        await it.ready(503)
        assert time.monotonic() - began < 1
        streaming, response = await asyncio.gather(it.ask(), it.ask(stream=False))
        assert time.monotonic() - began >= GRACE
        error = error_of(response)
        assert (response.status_code, error["code"]) == (503, "box_unreachable")
        assert "box1" in error["message"]
        assert response.headers["x-should-retry"] == "true"
        assert (await error_in(streaming))["code"] == "box_unreachable"
        listed = (await it.http.get("/v1/models")).json()["data"]
        assert {"warm", "cold"} <= {item["id"] for item in listed}
    await it.ready()
    assert (await it.ask(stream=False)).status_code == 200


async def test_a_box_that_comes_back_in_time_serves_those_who_waited(tmp_path: Path) -> None:
    async with yard(tmp_path) as it:
        async with it.box.away():
            await it.ready(503)
            streaming = await it.ask()
            asking = asyncio.ensure_future(it.ask(stream=False))
            assert (await anext(frames(streaming))).event == "model_switching"
        assert (await asking).status_code == 200
        await streaming.aclose()


async def test_three_missed_heartbeats_are_a_lost_box(it: Yard) -> None:
    it.box.mute = True
    it.box.say()  # the last that it would have said
    began = time.monotonic()
    try:
        await it.ready(503)
        lost = time.monotonic() - began
    finally:
        it.box.mute = False
    assert 4 <= lost < 7
    await it.ready()


async def test_a_box_that_may_be_off_is_not_waited_for_and_said_once_without_alarm(
    tmp_path: Path,
) -> None:
    calls = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += (await reader.readline()).startswith(b"GET /models/events")
        writer.close()

    off = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{off.sockets[0].getsockname()[1]}"
    async with FakeBox("box1", FACTS, answers) as box, off:
        sidecars = [{"url": box.url}, {"url": url, "optional": True}]
        async with router(tmp_path, f"sidecars: {json.dumps(sidecars)}") as it:
            async with client(it.url) as http:
                await Yard(it, http, box).ready()
                response = await http.post(CHAT, json={"model": "none", "messages": []})
            assert (response.status_code, error_of(response)["code"]) == (404, "model_not_found")
            await until(lambda: calls >= 3)
            lines = [json.loads(line) for line in it.program.log().splitlines()]
    about = [(line["event"], line["level"]) for line in lines if line.get("url") == url]
    assert about == [("trouble with a box", "info")]


# Who leaves.


async def nothing(asked: Exchange) -> None:
    await asked.left.wait()


async def half_a_stream(asked: Exchange) -> None:
    await asked.events()
    await asked.chunk(b"data: 1\n\n")
    await asked.left.wait()


async def half_an_answer(asked: Exchange) -> None:
    await asked.begin(200, content_type="application/json", content_length="100")
    await asked.write(b'{"half":')
    await asked.left.wait()


@pytest.mark.parametrize(
    ("state", "engine", "stream"),
    [
        ("before the first byte, told so", nothing, True),
        ("before the first byte", nothing, False),
        ("streaming", half_a_stream, True),
        ("not streaming", half_an_answer, False),
    ],
)
async def test_a_client_that_leaves_closes_what_was_opened_for_it(
    it: Yard, state: str, engine: Engine, stream: bool, record_property: Record
) -> None:
    it.box.engine = engine
    url = it.http.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    body = json.dumps({"model": "warm", "stream": stream}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: r\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    asked = await it.exchange()
    if engine is not nothing or stream:
        await asyncio.wait_for(reader.read(1), 5)
    assert not asked.left.is_set()
    left_at = time.monotonic()
    writer.close()
    await asyncio.wait_for(asked.left.wait(), 1)
    record_property(f"seconds to close upstream, {state}", asked.left_at - left_at)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_the_line_is_wanted_no_more(
    it: Yard, stream: bool, record_property: Record
) -> None:
    asking = asyncio.ensure_future(it.ask("cold", stream=stream))
    await until(lambda: it.box.waiting("cold") == 1)
    if stream:
        response = await asking
        left_at = time.monotonic()
        await response.aclose()
    else:
        left_at = time.monotonic()
        asking.cancel()
    await until(lambda: it.box.waiting("cold") == 0, timeout=1)
    record_property("seconds until it is wanted no more", it.box.demands[-1][0] - left_at)
    it.box.say("cold", phase=Phase.READY)
    assert (await it.ask("warm", stream=False)).status_code == 200
    assert [asked.target for asked in it.box.exchanges] == ["/engines/warm/v1/chat/completions"]


async def test_demand_is_repeated_before_it_expires_however_much_the_box_has_to_say(
    it: Yard,
) -> None:
    heard = len(it.box.demands)

    def repeated() -> bool:
        """two more messages, while a Status comes every few milliseconds"""
        it.box.say("warm", in_flight=0)
        return len(it.box.demands) >= heard + 2

    await until(repeated, timeout=TTL)


async def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(it: Yard) -> None:
    url = it.http.base_url
    _, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(f'POST {CHAT} HTTP/1.1\r\nHost: r\r\nContent-Length: 99\r\n\r\n{{"mo'.encode())
    await writer.drain()
    writer.close()
    assert (await it.ask(stream=False)).status_code == 200
    assert len(it.box.exchanges) == 1


# Start and end.


async def test_an_address_that_is_taken_is_refused(it: Yard, tmp_path: Path) -> None:
    config = tmp_path / "router.yaml"
    config.write_text(it.server.config_path.read_text())
    argv = [sys.executable, "-m", "router", "--config", str(config)]
    async with Program(argv, tmp_path) as refused:
        assert await refused.wait() == 2
    assert "address already in use" in refused.log().lower()
    assert "Traceback" not in refused.log()


class Gate:
    """An engine that ends its stream when it is told to."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, asked: Exchange) -> None:
        await asked.events()
        await asked.chunk(b"data: 1\n\n")
        either = [asyncio.ensure_future(event.wait()) for event in (self.open, asked.left)]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        for waiting in either:
            waiting.cancel()
        await asked.chunk(b"data: [DONE]\n\n")
        await asked.end()


async def test_a_signal_sends_away_who_waits_and_lets_streams_finish(
    tmp_path: Path,
) -> None:
    async with yard(tmp_path) as it:
        it.box.engine = gate = Gate()
        served = await it.ask()
        streaming = await it.ask("cold")
        waiting = asyncio.ensure_future(it.ask("cold", stream=False))
        await until(lambda: it.box.waiting("cold") == 2)
        it.server.program.terminate()
        response = await waiting
        assert (response.status_code, error_of(response)["code"]) == (503, "shutting_down")
        assert response.headers["x-should-retry"] == "true"
        assert (await error_in(streaming))["code"] == "shutting_down"
        late = await it.ask(stream=False)
        assert (late.status_code, error_of(late)["code"]) == (503, "shutting_down")
        assert it.server.program.code is None
        gate.open.set()
        assert [frame.data for frame in await told(served)] == ["1", "[DONE]"]
        assert await it.server.program.wait() == 0
        assert "Traceback" not in it.server.program.log()


async def test_a_second_signal_ends_the_router_at_once(
    tmp_path: Path,
) -> None:
    async with yard(tmp_path) as it:
        it.box.engine = Gate()
        served = await it.ask()
        heard = frames(served)
        await anext(heard)
        it.server.program.terminate()
        await until(lambda: it.http.get("/healthz"))
        began = time.monotonic()
        it.server.program.terminate()
        assert await it.server.program.wait() == 0
        assert time.monotonic() - began < 2
        await asyncio.wait_for((await it.exchange()).left.wait(), 1)
