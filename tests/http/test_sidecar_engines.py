"""What a sidecar does with its engines: refusals, bytes, keys, loads that fail, stops that hang."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import NamedTuple

import pytest

from tests.harness import frames, until
from tests.http.boxes import CHAT, ECHO_ARGV, Box, Json, box, echo, fake, model

ENDLESS = ("--tokens", "100000", "--tokens-per-second", "50")
MODELS = {
    "echo": echo(env={"GIVEN_TOKEN": "is given"}),
    "keyed": model(
        ["sh", "-c", 'echo "api_key=\'$ENGINE_KEY\'"; exec "$@"', "sh", *ECHO_ARGV],
        env={"ENGINE_KEY": "{key}"},
    ),
    "plain": fake("--tokens", "3"),
    "one-slot": fake("--tokens", "12", "--tokens-per-second", "40", slots=1),
    "endless": fake(*ENDLESS, drain_timeout="200ms"),
    "conflict": fake("--answer-status", "409"),
}
SECRETS = {"HF_TOKEN": "s1", "my_secret": "s2", "OPENAI_API_KEY": "s3", "DB_PASSWORD": "s4"}


@pytest.fixture(scope="module")
async def it(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Box]:
    environment = {**SECRETS, "PLAIN": "may be seen"}
    async with box(tmp_path_factory.mktemp("sidecar"), MODELS, environment) as it:
        await it.load("echo")
        yield it


class Raw(NamedTuple):
    status: int
    body: bytes


async def raw(it: Box, target: bytes, method: bytes = b"POST") -> Raw:
    """With a target that a decent client would have tidied up first."""
    url = it.http.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = b"%b %b HTTP/1.1\r\nHost: box\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    writer.write(head % (method, target))
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return Raw(int(head.split()[1]), body)


async def refused(it: Box, name: str, reason: str) -> Json:
    response = await it.ask(name)
    assert response.status_code == 409
    assert response.headers["x-swapyard-refused"] == reason
    said = dict(response.json())
    assert said.keys() == {"boot", "seq"}
    return said


# Refusals.


async def test_an_engine_that_is_not_ready_is_refused_and_not_waited_for(it: Box) -> None:
    said = await refused(it, "plain", "not_ready")
    status = await it.status()
    assert said["boot"] == status["boot"]
    assert said["seq"] <= status["seq"]
    assert (await it.of("plain"))["phase"] == "idle"


async def test_slots_are_the_most_that_an_engine_is_given(it: Box) -> None:
    await it.load("one-slot")
    response = await it.http.send(it.chat("one-slot"), stream=True)
    said = await refused(it, "one-slot", "busy")
    whole = [frame.data async for frame in frames(response)]
    assert whole[-1] == "[DONE]"

    async def free() -> bool:
        newer = bool((await it.status())["seq"] > said["seq"])
        return newer and await it.serves_nobody("one-slot")

    await until(free)
    assert (await it.ask("one-slot")).status_code == 200
    await it.unload("one-slot")


async def test_what_runs_is_finished_before_an_engine_is_stopped(it: Box) -> None:
    await it.load("one-slot")
    response = await it.http.send(it.chat("one-slot"), stream=True)
    assert (await it.http.post("/models/one-slot/unload")).json()["phase"] == "switching"
    await refused(it, "one-slot", "draining")
    assert [frame.data async for frame in frames(response)][-1] == "[DONE]"
    await it.until("one-slot", "idle")
    assert it.journal("one-slot", "sigterm")
    assert not it.journal("one-slot", "gone")


async def test_an_engines_own_409_is_no_refusal(it: Box) -> None:
    await it.load("conflict")
    response = await it.ask("conflict")
    assert response.status_code == 409
    assert "x-swapyard-refused" not in response.headers
    assert response.json()["error"]["message"] == "told to fail"
    await it.unload("conflict")


async def test_an_engine_cannot_speak_for_its_sidecar(it: Box) -> None:
    for target in ("v1/echo?status=409", "v1/any?status=409"):
        response = await it.ask("echo", target)
        assert response.status_code == 409
        assert not {"x-swapyard-refused", "x-swapyard-box", "set-cookie"} & set(response.headers)


# What goes through.


@pytest.mark.parametrize(
    "target",
    [
        b"/engines/echo/health",
        b"/engines/echo/metrics",
        b"/engines/echo/v1",
        b"/engines/echo/v1/",
        b"/engines/echo/v1//chat",
        b"/engines/echo/v1/../health",
        b"/engines/echo/v1/%2e%2e/health",
        b"/engines/echo/v1/..%2fhealth",
        b"/engines/echo/v1/./chat",
        b"/engines/echo/../../models",
        b"/engines/nobody/v1/chat/completions",
        b"/engines/echo%00/v1/chat/completions",
        b"/engines/echo/v1/chat%0Acompletions",
        b"/engines/",
    ],
)
async def test_only_inference_paths_reach_an_engine(it: Box, target: bytes) -> None:
    answer = await raw(it, target)
    assert answer.status == 404
    assert json.loads(answer.body)["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    "target", [b"/v1/a%3Fb%23c", b"/v1/a%25b", b"/v1/%C3%BC", b"/v1/a?b=c%20d&e"]
)
async def test_a_target_means_the_same_to_the_engine(it: Box, target: bytes) -> None:
    answer = await raw(it, b"/engines/echo" + target)
    assert answer.status == 200
    assert json.loads(answer.body)["target"] == target.decode()


async def test_every_method_passes(it: Box) -> None:
    await it.load("plain")
    response = await it.http.get("/engines/plain/v1/models")
    assert response.json()["data"][0]["id"] == "fake"
    await it.unload("plain")


@pytest.mark.parametrize("kind", ["audio/wav", "text/event-stream; charset=utf-8"])
async def test_bytes_are_the_same_on_both_sides(it: Box, kind: str) -> None:
    body = os.urandom(100_000) + b"\r\n\x00data: [DONE]\n\n"
    response = await it.http.post(
        "/engines/echo/v1/echo", content=body, headers={"content-type": kind}
    )
    assert response.content == body
    assert response.headers["content-type"] == kind


async def test_what_an_engine_says_is_passed_on_as_it_says_it(it: Box) -> None:
    await it.load("one-slot")
    answered = len(it.journal("one-slot", "answered"))
    async with it.http.stream("POST", f"/engines/one-slot/{CHAT}", json={"stream": True}) as r:
        assert r.headers["content-type"] == "text/event-stream"
        await anext(frames(r))
        assert len(it.journal("one-slot", "answered")) == answered
    await it.unload("one-slot")


async def test_only_headers_that_an_engine_needs_reach_it(it: Box) -> None:
    passes = {"content-type": "text/x", "accept": "text/y", "user-agent": "me"}
    passes |= {"x-request-id": "r-1", "traceparent": "00-1", "tracestate": "a=b"}
    stays = {"authorization": "Bearer client", "cookie": "a=b", "x-api-key": "k", "x-any": "1"}
    stays |= {"x-swapyard-router": "r", "x-forwarded-for": "1.2.3.4", "te": "trailers"}
    response = await it.http.post("/engines/echo/v1/x", content=b"{}", headers=passes | stays)
    seen = response.json()["headers"]
    assert passes.items() <= seen.items()
    ours = {"host", "content-length", "accept-encoding", "authorization"}
    assert seen.keys() == passes.keys() | ours
    assert seen["accept-encoding"] == "identity"


async def test_an_engines_key_is_sent_to_it_and_shown_to_nobody_else(it: Box) -> None:
    keys = set()
    for _ in range(2):
        await it.load("keyed")
        seen = (await it.ask("keyed")).json()
        key = seen["env"]["ENGINE_KEY"]
        assert len(key) >= 32
        assert seen["headers"]["authorization"] == f"Bearer {key}"
        assert key not in " ".join(seen["argv"])
        assert key not in (await it.http.get("/models/status")).text
        logged = (await it.http.get("/models/keyed/logs")).text
        assert logged.splitlines()[0] == "api_key='[key]'"
        assert key not in logged
        keys.add(key)
        await it.unload("keyed")
    assert not any(key in it.server.program.log() for key in keys)
    assert len(keys) == 2


async def test_secrets_of_the_sidecar_are_not_inherited(it: Box) -> None:
    env = (await it.ask("echo")).json()["env"]
    assert not SECRETS.keys() & env.keys()
    assert (env["PLAIN"], env["GIVEN_TOKEN"]) == ("may be seen", "is given")


def seen(it: Box, event: str, times: int) -> bool:
    return len(it.journal("endless", event)) == times


async def test_a_client_that_leaves_is_left_by_its_engine(
    it: Box, record_property: Callable[[str, object], None]
) -> None:
    await it.load("endless")
    for stream in (False, True):
        asking = asyncio.ensure_future(it.http.send(it.chat("endless", stream), stream=True))
        await until(partial(seen, it, "request", 1 + stream))
        if stream:
            await (await asking).aclose()
        else:
            asking.cancel()
        left_at = time.monotonic()
        await until(partial(seen, it, "gone", 1 + stream), timeout=1)
        record_property("seconds", it.journal("endless", "gone")[-1]["at"] - left_at)

    await until(lambda: it.serves_nobody("endless"))
    await it.unload("endless")
