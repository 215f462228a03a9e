"""What a client gets from the router, whatever its box does: bytes, headers, errors."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest

from shared.status import LoadError, Phase, Step
from tests.fakes.box import Exchange
from tests.harness import frames, until
from tests.http.yards import ANSWER, CHAT, KEY, Yard, error_of, told, yard


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    models = {"cold": {"aliases": ["chilly"]}}
    async with yard(tmp_path_factory.mktemp("router"), models=models) as it:
        yield it


@pytest.fixture
def it(shared: Yard) -> Yard:
    shared.reset()
    return shared


# What goes up.


async def test_only_headers_that_an_engine_needs_go_on(it: Yard) -> None:
    passes = {"content-type": "application/json", "accept": "a/b", "user-agent": "me"}
    passes |= {"x-request-id": "r-1", "traceparent": "00-1", "tracestate": "a=b"}
    stays = {"authorization": "Bearer client", "cookie": "a=b", "x-api-key": "k", "x-any": "1"}
    stays |= {"x-swapyard-router": "spoof", "x-forwarded-for": "1.2.3.4", "te": "trailers"}
    await told(await it.ask(headers=passes | stays))
    seen = (await it.exchange()).headers
    assert passes.items() <= seen.items()
    ours = {"host", "content-length", "accept-encoding", "authorization"}
    assert seen.keys() == passes.keys() | ours | {"x-swapyard-router"}
    assert seen["accept-encoding"] == "identity"
    assert seen["x-swapyard-router"] != "spoof"


async def test_the_routers_own_key_is_shown_to_its_box_everywhere(it: Yard) -> None:
    await told(await it.ask(headers={"authorization": "Bearer client"}))
    await until(lambda: it.box.demands)
    assert it.box.authorizations == {f"Bearer {KEY}"}


async def test_a_cookie_of_a_box_is_never_sent_back(it: Yard) -> None:
    async def sets_a_cookie(asked: Exchange) -> None:
        await asked.json(200, {}, set_cookie="a=b")

    it.box.engine = sets_a_cookie
    for _ in range(2):
        response = await it.ask(stream=False)
        assert "set-cookie" not in response.headers
    assert "cookie" not in (await it.exchange(1)).headers


async def test_a_body_goes_on_as_it_came(it: Yard) -> None:
    body = b'{ "messages":[],\n"model" :\t"warm", "stream":true,"x":1.00,"\xc3\xbc":"\\u00fc" }'
    await it.http.post(CHAT, content=body)
    assert (await it.exchange()).body == body


async def test_only_the_models_name_is_changed_where_the_engine_has_another(it: Yard) -> None:
    body = b'{ "x": {"model": "mine"}, "model" : "Qwen/Qwen3-8B" , "stream":true}'
    await it.http.post("/v1/embeddings", content=body)
    seen = await it.exchange()
    assert seen.body == body.replace(b"Qwen/Qwen3-8B", b"served-qwen")
    assert seen.target == "/engines/Qwen/Qwen3-8B/v1/embeddings"


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/../../../models/switch",
        b"/v1/%2e%2e/%2e%2e/%2e%2e/models/switch",
        b"/v1/..%2f..%2f..%2f..%2fmodels/switch",
        b"/v1/audio/../speech",
        b"/v1//chat",
        b"/v1/",
    ],
)
async def test_no_path_leads_to_anything_else_of_a_box(it: Yard, target: bytes) -> None:
    url = it.http.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = b"POST %b HTTP/1.1\r\nHost: r\r\nContent-Length: 17\r\nConnection: close\r\n\r\n"
    writer.write(head % target + b'{"model": "warm"}')
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b'"code": "not_found"' in answer
    assert not it.box.exchanges


async def test_a_path_with_odd_characters_means_the_same_to_the_box(it: Yard) -> None:
    await it.http.post("/v1/a%3Fb%23c%25", json={"model": "warm"})
    assert (await it.exchange()).target == "/engines/warm/v1/a%3Fb%23c%25"


# What comes back.


async def test_an_answer_that_did_not_wait_is_the_engines_byte_for_byte(it: Yard) -> None:
    response = await it.ask()
    assert response.headers["content-type"] == "text/event-stream"
    assert b"".join([piece async for piece in response.aiter_raw()]) == b"".join(ANSWER)


async def test_an_answer_that_did_not_wait_says_in_headers_what_was_decided(it: Yard) -> None:
    response = await it.ask()
    await response.aread()
    said = {k: v for k, v in response.headers.items() if k.startswith("x-swapyard-")}
    wait = int(said.pop("x-swapyard-wait-ms"))
    assert said == {
        "x-swapyard-box": "box1",
        "x-swapyard-model": "warm",
        "x-swapyard-reason": "resident",
    }
    assert wait < 1000


async def test_an_engines_error_is_its_own_for_a_client_that_has_no_headers_yet(it: Yard) -> None:
    body = b'{"error": {"message": "too long", "code": 400, "type": "x"}, "more": 1}'
    it.box.engine = lambda asked: asked.whole(400, body, content_type="application/json")
    response = await it.ask(stream=False)
    assert (response.status_code, response.content) == (400, body)
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(("given", "kept"), [("mine.1_2-3", True), ("a b", False), ("", False)])
async def test_every_answer_has_a_request_id_and_a_sane_one_is_kept(
    it: Yard, given: str, kept: bool
) -> None:
    for model in ("warm", "nobody"):
        response = await it.ask(model, stream=False, headers={"x-request-id": given})
        [id] = response.headers.get_list("x-request-id")
        assert (id == given) is kept
        assert id
        if model == "warm":
            assert (await it.exchange()).headers["x-request-id"] == id


async def test_each_chunk_is_passed_on_when_it_comes(it: Yard) -> None:
    go_on = asyncio.Event()

    async def in_two_parts(asked: Exchange) -> None:
        await asked.events()
        await asked.chunk(b"data: 1\n\n")
        await go_on.wait()
        await asked.chunk(b"data: 2\n\n")
        await asked.end()

    it.box.engine = in_two_parts
    heard = frames(await it.ask())
    assert (await anext(heard)).data == "1"
    go_on.set()
    assert (await anext(heard)).data == "2"


async def test_a_client_that_does_not_read_stops_the_reading_upstream(it: Yard) -> None:
    sent = 0

    async def endless(asked: Exchange) -> None:
        nonlocal sent
        await asked.events()
        while not asked.left.is_set():
            await asked.chunk(b"data: " + b"x" * 65536 + b"\n\n")
            sent += 65536

    it.box.engine = endless
    response = await it.ask()
    last, since = -1, time.monotonic()

    def stuck() -> bool:
        nonlocal last, since
        if sent != last:
            last, since = sent, time.monotonic()
        return time.monotonic() - since > 0.3

    await until(stuck)
    assert sent < 32 * 2**20  # what the kernel's socket buffers take on the way
    await response.aclose()


# While it waits.


async def test_a_stream_that_waits_is_told_the_story_and_then_the_answer(it: Yard) -> None:
    response = await it.ask("cold")
    assert response.headers["content-type"].startswith("text/event-stream")
    assert "x-swapyard-box" not in response.headers
    heard = frames(response)
    first = await anext(heard)
    assert first.event == "model_switching"
    await until(lambda: it.box.waiting("cold") == 1)
    it.box.say("cold", phase=Phase.STARTING, step=Step.STARTING)
    it.box.say("cold", phase=Phase.READY, step=None)
    rest = [frame async for frame in heard]
    stories = [json.loads(f.data) for f in (first, *rest) if f.event == "model_switching"]
    assert all(chunk["choices"][0]["delta"] == {} for chunk in stories)
    last = stories[-1]["model_switching"]
    assert (last["phase"], last["box"], last["reason"]) == ("ready", "box1", "loaded")
    assert last["waited_ms"] >= 0
    assert [f.data for f in rest if f.event == "message"] == [
        '{"choices": [], "n": 1}',
        '{"n":2}',
        "[DONE]",
    ]


async def test_comments_are_lines_and_nothing_else(it: Yard) -> None:
    response = await it.ask("cold", headers={"x-swapyard-progress": "comments"})
    await until(lambda: it.box.waiting("cold") == 1)
    it.box.say("cold", phase=Phase.READY)
    whole = b"".join([piece async for piece in response.aiter_raw()])
    before, _, after = whole.partition(ANSWER[0])
    assert after == b"".join(ANSWER[1:])
    assert all(line.startswith(b": ") for line in before.splitlines())


@pytest.mark.parametrize("stream", [True, False])
async def test_who_wants_no_progress_gets_its_headers_with_the_answer(
    it: Yard, stream: bool
) -> None:
    headers = {"x-swapyard-progress": "off"} if stream else {}
    asking = asyncio.ensure_future(it.ask("chilly", stream=stream, headers=headers))
    await until(lambda: it.box.waiting("cold") == 1)
    assert not asking.done()
    it.box.say("cold", phase=Phase.READY)
    response = await asking
    assert await response.aread() == b"".join(ANSWER)
    assert response.headers["x-swapyard-model"] == "cold"
    assert int(response.headers["x-swapyard-wait-ms"]) > 0


async def test_a_refused_request_is_offered_again_only_after_newer_news(it: Yard) -> None:
    async def refuses_once(asked: Exchange) -> None:
        if len(it.box.exchanges) > 1:
            return await answers_with_ok(asked)
        said = {"boot": it.box.status.boot, "seq": it.box.status.seq}
        await asked.json(409, said, x_swapyard_refused="busy")

    it.box.engine = refuses_once
    asking = asyncio.ensure_future(it.ask(stream=False))
    await until(lambda: it.box.waiting("warm") == 1)
    assert len(it.box.exchanges) == 1
    it.box.say("warm", in_flight=0)
    assert (await asking).json() == {"ok": True}
    assert len(it.box.exchanges) == 2


async def answers_with_ok(asked: Exchange) -> None:
    await asked.json(200, {"ok": True})


async def test_a_load_that_failed_is_told_with_its_cause_and_last_words(it: Yard) -> None:
    asking = asyncio.ensure_future(it.ask("cold", stream=False))
    await until(lambda: it.box.waiting("cold") == 1)
    error = LoadError("load_failed", "vram_oom", "no memory", time.time(), log_tail=("last words",))
    it.box.say("cold", phase=Phase.IDLE, error=error)
    response = await asking
    told_of = error_of(response)
    assert (response.status_code, told_of["code"]) == (503, "load_failed")
    assert (told_of["cause"], told_of["log_tail"]) == ("vram_oom", ["last words"])


# Beside it.


async def test_lists_and_probes_never_cause_a_load(it: Yard) -> None:
    items = {item["id"]: item for item in (await it.http.get("/v1/models")).json()["data"]}
    assert items["warm"]["status"]["value"] == "loaded"
    assert items["cold"]["status"]["value"] == "unloaded"
    assert items["cold"]["aliases"] == ["chilly"]
    assert items["Qwen/Qwen3-8B"]["context_length"] == 131072
    assert (await it.http.get("/healthz")).status_code == 200
    assert (await it.http.get("/api/fleet")).json()["boxes"][0]["live"] is True
    assert it.box.waiting("cold") == 0
    assert not it.box.exchanges
