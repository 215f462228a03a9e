"""The fake engine keeps its word: a fake that lies would make every test on it worthless."""

import json
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes import answers
from tests.harness import Program, client, engine, frames, free_port, ours, until

CHAT = "/v1/chat/completions"
Journal = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    def lines_of(event: str) -> list[dict[str, Any]]:
        path = tmp_path / "journal"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in map(json.loads, lines) if line["event"] == event]

    return lines_of


def launch(tmp_path: Path, port: int, *switches: str) -> Program:
    return engine(tmp_path, port, "--journal", str(tmp_path / "journal"), *switches)


def at(port: int) -> httpx.AsyncClient:
    return client(f"http://127.0.0.1:{port}")


def asking(stream: bool) -> dict[str, Any]:
    return {"model": "some/model", "stream": stream, "messages": []}


async def answer(http: httpx.AsyncClient, path: str = CHAT) -> tuple[list[Any], str]:
    async with http.stream("POST", path, json=asking(stream=True)) as response:
        *chunks, end = [frame.data async for frame in frames(response)]
    return [json.loads(chunk) for chunk in chunks], end


async def test_its_port_listens_while_it_loads(tmp_path: Path, port: int, journal: Journal) -> None:
    async with launch(tmp_path, port, "--load-seconds", "0.4"), at(port) as http:
        began = time.monotonic()
        response = await until(lambda: health(http))
        assert response.status_code == 503
        assert response.json()["error"]["message"] == "Loading model"
        assert (await http.post(CHAT, json=asking(stream=True))).status_code == 503
        await until(lambda: ready(http))
        assert journal("ready")[0]["at"] - journal("started")[0]["at"] >= 0.4
        assert journal("started")[0]["at"] > began


async def test_a_stream_opens_with_the_role_and_ends_with_usage_and_done(
    tmp_path: Path, port: int, journal: Journal
) -> None:
    async with launch(tmp_path, port, "--tokens", "3"), at(port) as http:
        await until(lambda: ready(http))
        chunks, end = await answer(http)
        assert end == "[DONE]"
        assert {chunk["model"] for chunk in chunks} == {"some/model"}
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        assert deltas[0]["role"] == "assistant"
        assert [d["content"] for d in deltas[1:-1]] == ["tok0", " tok1", " tok2"]
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
        assert chunks[-1]["usage"]["completion_tokens"] == 3
        assert chunks[-1]["timings"]["predicted_n"] == 3
        assert journal("request")[0]["model"] == "some/model"
        assert journal("answered")[0]["tokens"] == 3


async def test_it_answers_in_every_shape_on_one_connection(tmp_path: Path, port: int) -> None:
    async with launch(tmp_path, port, "--tokens", "2"), at(port) as http:
        await until(lambda: ready(http))
        whole = await http.post(CHAT, json=asking(stream=False))
        text = await http.post("/v1/completions", json={"model": "x", "prompt": "hello"})
        chunks, _ = await answer(http, "/v1/completions")
        vectors = await http.post("/v1/embeddings", json={"model": "x", "input": ["a", "b"]})
        models = await http.get("/v1/models")
        assert whole.json()["choices"][0]["message"]["content"] == "tok0 tok1"
        assert whole.json()["model"] == "some/model"
        assert text.json()["choices"][0]["text"] == "tok0 tok1"
        assert [chunk["choices"][0]["text"] for chunk in chunks] == ["tok0", " tok1", ""]
        assert len(vectors.json()["data"]) == 2
        assert models.json()["object"] == "list"
        assert local_port(whole) == local_port(text) == local_port(vectors) == local_port(models)


async def test_a_request_may_cut_its_answer_but_not_lengthen_it(tmp_path: Path, port: int) -> None:
    async with launch(tmp_path, port, "--tokens", "3"), at(port) as http:
        await until(lambda: ready(http))
        for most, tokens in ((2, 2), (9, 3), (-1, 3)):
            whole = await http.post(CHAT, json={**asking(stream=False), "max_tokens": most})
            assert whole.json()["usage"]["completion_tokens"] == tokens


async def test_it_reads_a_body_that_comes_in_chunks(tmp_path: Path, port: int) -> None:
    async def body() -> Any:
        yield b'{"model": '
        yield b'"in chunks"}'

    async with launch(tmp_path, port), at(port) as http:
        await until(lambda: ready(http))
        assert (await http.post(CHAT, content=body())).json()["model"] == "in chunks"


async def test_tokens_come_at_the_speed_and_after_the_prefill_asked_for(
    tmp_path: Path, port: int, journal: Journal
) -> None:
    switches = ("--tokens", "5", "--tokens-per-second", "50", "--first-token-seconds", "0.2")
    async with launch(tmp_path, port, *switches), at(port) as http:
        await until(lambda: ready(http))
        began = time.monotonic()
        async with http.stream("POST", CHAT, json=asking(stream=True)) as response:
            assert time.monotonic() - began >= 0.2
            await response.aread()
        (answered,) = await until(lambda: journal("answered"))
        took = answered["at"] - journal("request")[0]["at"]
        assert took >= 0.2 + 4 / 50


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("prefill", ["0", "30"])
async def test_a_client_that_hangs_up_is_noticed_at_once(
    tmp_path: Path, port: int, journal: Journal, stream: bool, prefill: str
) -> None:
    switches = ("--tokens", "1000", "--tokens-per-second", "50", "--first-token-seconds", prefill)
    async with launch(tmp_path, port, *switches), at(port) as http:
        await until(lambda: ready(http))
        with socket.create_connection(("127.0.0.1", port)) as connection:
            body = json.dumps(asking(stream)).encode()
            head = f"POST {CHAT} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            await until(lambda: journal("request"))
        hung_up = time.monotonic()
        gone = (await until(lambda: journal("gone")))[0]
        assert gone["at"] - hung_up < 0.2
        assert gone["tokens"] < 1000
        assert journal("answered") == []
        assert await ready(http)


async def test_a_fast_and_endless_answer_starves_nobody(tmp_path: Path, port: int) -> None:
    async with launch(tmp_path, port, "--tokens", "1000000000"), at(port) as http:
        await until(lambda: ready(http))
        async with http.stream("POST", CHAT, json=asking(stream=True)) as response:
            async for _ in frames(response):
                break
            assert await ready(http)


async def test_a_crash_half_way_through_the_load_has_last_words(
    tmp_path: Path, port: int, journal: Journal
) -> None:
    async with launch(tmp_path, port, "--crash-at", "load", "--load-seconds", "0.1") as program:
        assert await program.wait() == 1
        assert program.log().splitlines()[-1].endswith("crashed half-way through the load")
        assert journal("ready") == []
        assert journal("exit")[0]["code"] == 1


async def test_a_crash_may_be_by_a_signal(tmp_path: Path, port: int, journal: Journal) -> None:
    switches = ("--crash-at", "load", "--crash-with", "SEGV")
    async with launch(tmp_path, port, *switches) as program:
        assert await program.wait() == -signal.SIGSEGV
        assert "crashed half-way through the load" in program.log()
        assert journal("exit")[0]["code"] == -signal.SIGSEGV


async def test_a_crash_at_ready_comes_after_the_first_good_health(
    tmp_path: Path, port: int
) -> None:
    async with launch(tmp_path, port, "--crash-at", "ready") as program, at(port) as http:
        await until(lambda: ready(http))
        assert await program.wait() == 1


async def test_a_crash_after_a_token_comes_after_that_token(tmp_path: Path, port: int) -> None:
    got: list[str] = []
    async with launch(tmp_path, port, "--crash-at", "token:3") as program, at(port) as http:
        await until(lambda: ready(http))
        with pytest.raises(httpx.RemoteProtocolError):
            await listen(http, got)
        assert await program.wait() == 1
    assert len(got) == 4
    assert "tok2" in got[-1]


async def test_sigterm_ends_it_in_the_middle_of_an_answer(
    tmp_path: Path, port: int, journal: Journal
) -> None:
    async with launch(tmp_path, port, "--tokens-per-second", "1") as program, at(port) as http:
        await until(lambda: ready(http))
        async with http.stream("POST", CHAT, json=asking(stream=True)):
            program.terminate()
            assert await program.wait() == 0
    assert [line["code"] for line in journal("exit")] == [0]


async def test_a_deaf_one_hears_sigterm_and_goes_on(
    tmp_path: Path, port: int, journal: Journal
) -> None:
    async with launch(tmp_path, port, "--deaf") as program, at(port) as http:
        await until(lambda: ready(http))
        program.terminate()
        await until(lambda: journal("sigterm"))
        assert await ready(http)
        program.kill()
        assert await program.wait() == -9


async def test_a_stalled_one_takes_connections_and_says_nothing(tmp_path: Path, port: int) -> None:
    async with launch(tmp_path, port, "--stall") as program, at(port) as http:
        await until(lambda: listens(port))
        with pytest.raises(httpx.ReadTimeout):
            await http.get("/health", timeout=0.2)
        assert program.code is None
        assert program.log() == ""


async def test_one_that_listens_nowhere_lives_on(
    tmp_path: Path, port: int, journal: Journal
) -> None:
    async with launch(tmp_path, port, "--no-listen") as program:
        await until(lambda: journal("ready"))
        assert not listens(port)
        assert program.code is None


async def test_a_taken_port_ends_it(tmp_path: Path, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        async with launch(tmp_path, port) as program:
            assert await program.wait() == 1
            assert program.log() == "bind: Address already in use\n"


async def test_it_fails_with_the_words_it_is_given(tmp_path: Path, port: int) -> None:
    words = "error: invalid argument: --foo"
    async with launch(tmp_path, port, "--fail-with", words) as program:
        assert await program.wait() == 1
        assert program.log() == words + "\n"


async def test_it_answers_with_the_status_it_is_given(tmp_path: Path, port: int) -> None:
    async with launch(tmp_path, port, "--answer-status", "429"), at(port) as http:
        await until(lambda: ready(http))
        for path in (CHAT, "/v1/embeddings"):
            response = await http.post(path, json=asking(stream=True))
            assert response.status_code == 429
            assert response.json()["error"]["message"]


async def test_what_it_starts_bears_the_mark_of_these_tests(tmp_path: Path, port: int) -> None:
    async with launch(tmp_path, port) as program:
        assert program.pid in {process.pid for process in ours()}
    assert program.pid not in {process.pid for process in ours()}


async def listen(http: httpx.AsyncClient, got: list[str]) -> None:
    async with http.stream("POST", CHAT, json=asking(stream=True)) as response:
        async for frame in frames(response):
            got += [frame.data]


async def health(http: httpx.AsyncClient) -> httpx.Response | None:
    """an answer to GET /health"""
    try:
        return await http.get("/health")
    except httpx.ConnectError:
        return None


async def ready(http: httpx.AsyncClient) -> bool:
    """GET /health answers 200"""
    response = await health(http)
    return response is not None and response.status_code == 200


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def local_port(response: httpx.Response) -> object:
    return response.extensions["network_stream"].get_extra_info("client_addr")


async def test_an_echo_depends_on_the_model_and_on_what_was_said(tmp_path: Path, port: int) -> None:
    async with launch(tmp_path, port, "--echo"), at(port) as http:
        await until(lambda: ready(http))
        said = [
            {"model": model, "stream": stream, "messages": [{"role": "user", "content": content}]}
            for model, content in (("one", "a"), ("one", "b"), ("two", "a"))
            for stream in (True, False)
        ]
        told = [await text_of(http, body) for body in said]
    assert told == [answers.whole(answers.words(body), 8) for body in said]
    assert told[::2] == told[1::2]
    assert len(set(told)) == 3


async def text_of(http: httpx.AsyncClient, body: dict[str, Any]) -> str:
    if not body["stream"]:
        return str((await http.post(CHAT, json=body)).json()["choices"][0]["message"]["content"])
    async with http.stream("POST", CHAT, json=body) as response:
        *said, _ = [frame.data async for frame in frames(response)]
    chunks = [json.loads(data) for data in said]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
