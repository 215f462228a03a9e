"""What a client of the router is told when there is no answer, or none to its end."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from shared.status import Phase
from tests.fakes.box import Exchange
from tests.harness import until
from tests.http.yards import CHAT, Yard, error_in, error_of, yard

MAX_BODY = 2000  # bytes


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    async with yard(tmp_path_factory.mktemp("router"), max_body=MAX_BODY) as it:
        yield it


@pytest.fixture
def it(shared: Yard) -> Yard:
    shared.reset()
    return shared


# Answers that fail after the headers.


@pytest.mark.parametrize("status", [200, 400, 500])
async def test_what_is_no_stream_becomes_one_error_in_the_stream(it: Yard, status: int) -> None:
    it.box.engine = lambda asked: asked.json(status, {"error": {"message": "no", "code": "why"}})
    response = await it.ask("cold")
    it.box.say("cold", phase=Phase.READY)
    error = await error_in(response)
    assert (error["message"], error["code"], error["engine_status"]) == ("no", "why", status)


@pytest.mark.parametrize("dialect", ["events", "status"])
async def test_an_engines_own_words_are_told_but_never_logged(it: Yard, dialect: str) -> None:
    error = {"message": f"cannot parse: a secret prompt of {dialect}"}
    it.box.engine = lambda asked: asked.json(400, {"error": error})
    response = await it.ask("cold", headers={"x-swapyard-progress": dialect})
    it.box.say("cold", phase=Phase.READY)
    assert "secret prompt" in (await error_in(response))["message"]

    def is_logged() -> bool:
        """the line of that request"""
        return '"engine_status":400' in it.server.program.log()

    await until(is_logged)
    assert "secret" not in it.server.program.log()


@pytest.mark.parametrize("dialect", ["events", "status"])
async def test_an_engines_error_that_is_broken_off_is_its_death(it: Yard, dialect: str) -> None:
    async def broken(asked: Exchange) -> None:
        await asked.begin(500, content_length="1000")
        await asked.write(b"out")
        asked.cut()

    it.box.engine = broken
    response = await it.ask("cold", headers={"x-swapyard-progress": dialect})
    it.box.say("cold", phase=Phase.READY)
    assert (await error_in(response))["code"] == "engine_died"


async def test_a_long_wait_for_an_engines_headers_ends_the_same_way(it: Yard) -> None:
    go_on = asyncio.Event()

    async def late(asked: Exchange) -> None:
        await go_on.wait()
        await asked.whole(500, b"out of cheese", content_type="text/html")

    it.box.engine = late
    response = await it.ask()
    go_on.set()
    error = await error_in(response)
    assert (error["message"], error["code"]) == ("out of cheese", "engine_error")


async def test_a_box_that_vanishes_in_mid_stream_is_told_in_the_stream(it: Yard) -> None:
    async def vanishes(asked: Exchange) -> None:
        await asked.events()
        await asked.chunk(b"data: 1\n\n")
        asked.cut()

    it.box.engine = vanishes
    assert (await error_in(await it.ask()))["code"] == "engine_died"


async def test_a_stream_may_end_in_the_middle_of_a_chunk(it: Yard) -> None:
    async def torn(asked: Exchange) -> None:
        await asked.events()
        await asked.write(b"ff\r\ndata: half of\n\n")
        asked.cut()

    it.box.engine = torn
    assert (await error_in(await it.ask()))["code"] == "engine_died"


@pytest.mark.parametrize("counted", [True, False])
async def test_half_an_answer_never_looks_like_a_whole_one(it: Yard, counted: bool) -> None:
    async def half(asked: Exchange) -> None:
        length = {"content_length": "1000"} if counted else {}
        await asked.begin(200, content_type="application/json", **length)
        await (asked.write(b'{"half":') if counted else asked.chunk(b'{"half":'))
        asked.cut()

    it.box.engine = half
    with pytest.raises(httpx.RemoteProtocolError):
        await it.ask(stream=False)


# Answers that fail before them.


@pytest.mark.parametrize("stream", [True, False])
async def test_a_box_that_ends_twice_before_it_answers_is_502(it: Yard, stream: bool) -> None:
    async def ends(asked: Exchange) -> None:
        asked.cut()

    it.box.engine = ends
    response = await it.answer_of_the_second_try(stream=stream)
    assert (response.status_code, error_of(response)["code"]) == (502, "engine_died")


async def test_a_refusal_that_is_cut_off_twice_is_502(it: Yard) -> None:
    async def torn(asked: Exchange) -> None:
        await asked.begin(409, content_length="100", x_swapyard_refused="busy")
        asked.cut()

    it.box.engine = torn
    response = await it.answer_of_the_second_try(stream=False)
    assert (response.status_code, error_of(response)["code"]) == (502, "engine_died")


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"\xff", b"[]", b"{}", b'{"boot": "b"}', b'{"boot": 1, "seq": 1}']
)
async def test_a_refusal_that_cannot_be_read_is_no_fault_of_ours(it: Yard, body: bytes) -> None:
    async def refuses(asked: Exchange) -> None:
        await asked.whole(409, body, x_swapyard_refused="busy")

    it.box.engine = refuses
    response = await it.answer_of_the_second_try(stream=False)
    assert (response.status_code, error_of(response)["code"]) == (502, "engine_died")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"{", "invalid_json", None),
        (b"\xff", "invalid_json", None),
        (b"[]", "invalid_request", None),
        (b"{}", "model_required", "model"),
        (b'{"model": 1}', "model_required", "model"),
        (b'{"model": "warm", "stream": 1}', "invalid_request", "stream"),
    ],
)
async def test_a_request_that_is_none_is_400(
    it: Yard, body: bytes, code: str, param: str | None
) -> None:
    response = await it.http.post(CHAT, content=body)
    error = error_of(response)
    assert (response.status_code, error["code"], error["param"]) == (400, code, param)
    assert not it.box.exchanges


async def test_a_dialect_that_nobody_speaks_is_400(it: Yard) -> None:
    response = await it.ask(stream=False, headers={"x-swapyard-progress": "klingon"})
    error = error_of(response)
    assert (response.status_code, error["code"]) == (400, "bad_progress")
    assert "events, reasoning, events+reasoning, status, comments, off" in error["message"]


async def test_an_unknown_model_is_404_and_told_what_there_is(it: Yard) -> None:
    response = await it.ask("nobody", stream=False)
    error = error_of(response)
    assert (response.status_code, error["code"]) == (404, "model_not_found")
    assert all(name in error["message"] for name in ("nobody", "warm", "cold", "Qwen/Qwen3-8B"))


async def test_a_body_over_the_limit_is_413(it: Yard) -> None:
    fits = b'{"model": "warm", "stream": true}'.ljust(MAX_BODY)
    assert (await it.http.post(CHAT, content=fits)).status_code == 200

    async def unannounced() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield fits

    for body in (fits + b" ", unannounced()):
        response = await it.http.post(CHAT, content=body)
        assert (response.status_code, error_of(response)["code"]) == (413, "too_large")
    assert len(it.box.exchanges) == 1
