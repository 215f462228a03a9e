"""OpenAI's own package, used as people use it, reads every dialect: warm, cold and failing."""

from collections.abc import AsyncIterator
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from router.progress import DIALECTS
from tests.e2e.pair import Pair, chat, fake, pair
from tests.harness import until

DASHBOARD = "status"  # its events are no chunks: for programs that know it
OPENAI = [dialect for dialect in DIALECTS if dialect != DASHBOARD]
TEXT = "tok0 tok1 tok2 tok3"


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Pair]:
    models = (
        fake("warm", "--tokens", "4")
        + fake("cold", "--tokens", "4", "--load-seconds", "0.2")
        + fake("broken", "--fail-with", "error: invalid argument: --foo")
        + fake("dying", "--tokens", "8", "--crash-at", "token:3")
        + fake("slow", "--tokens", "1000", "--tokens-per-second", "50")
    )
    yaml = "progress: {interval: 100ms}\nmodels: {warm: {aliases: [gpt-4o]}}"
    async with pair(tmp_path, models, router_yaml=yaml) as made:
        yield made


def sync_client(both: Pair, dialect: str) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{both.router.url}/v1",
        api_key="any",
        max_retries=0,
        default_headers={"X-Swapyard-Progress": dialect},
        http_client=httpx.Client(trust_env=False, timeout=20),
    )


def async_client(both: Pair, dialect: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=f"{both.router.url}/v1",
        api_key="any",
        max_retries=0,
        default_headers={"X-Swapyard-Progress": dialect},
        http_client=httpx.AsyncClient(trust_env=False, timeout=20),
    )


def naive_loop(client: openai.OpenAI, model: str) -> str:
    """As most programs read a stream: no guard around `choices[0]`."""
    text = ""
    stream = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Hi"}], stream=True
    )
    for chunk in stream:
        text += chunk.choices[0].delta.content or ""
    return text


def careful_loop(client: openai.OpenAI, model: str) -> list[Any]:
    """Reads every dialect: whatever comes, as it comes."""
    return list(client.chat.completions.create(**chat(model)))


async def naive_async_loop(client: openai.AsyncOpenAI, model: str) -> str:
    text = ""
    stream = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Hi"}], stream=True
    )
    async for chunk in stream:
        text += chunk.choices[0].delta.content or ""
    return text


@pytest.mark.parametrize("dialect", OPENAI)
async def test_the_sync_client_reads_cold_and_warm(both: Pair, dialect: str) -> None:
    with sync_client(both, dialect) as client:
        for model in ("warm", "warm", "cold", "cold"):
            assert naive_loop(client, model) == TEXT


@pytest.mark.parametrize("dialect", OPENAI)
async def test_the_async_client_reads_cold_and_warm(both: Pair, dialect: str) -> None:
    async with async_client(both, dialect) as client:
        for model in ("warm", "warm", "cold", "cold"):
            assert await naive_async_loop(client, model) == TEXT


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_load_that_fails_is_an_exception_and_never_an_empty_answer(
    both: Pair, dialect: str
) -> None:
    with sync_client(both, dialect) as client, pytest.raises(openai.APIError) as raised:
        careful_loop(client, "broken")
    assert raised.value.code == "load_failed"
    assert "invalid argument: --foo" in str(raised.value)
    async with async_client(both, dialect) as asynchronous:
        with pytest.raises(openai.APIError):
            async for _ in await asynchronous.chat.completions.create(**chat("broken")):
                pass


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_engine_that_dies_in_mid_answer_is_an_exception(both: Pair, dialect: str) -> None:
    with sync_client(both, dialect) as client, pytest.raises(openai.APIError) as raised:
        careful_loop(client, "dying")
    assert raised.value.code == "engine_died"


@pytest.mark.parametrize("dialect", OPENAI)
async def test_a_load_is_shown_as_its_dialect_says_and_in_no_other_way(
    both: Pair, dialect: str
) -> None:
    with sync_client(both, dialect) as client:
        chunks = careful_loop(client, "cold")
    told = [chunk.model_switching["phase"] for chunk in chunks if hasattr(chunk, "model_switching")]
    deltas = [chunk.choices[0].delta for chunk in chunks]
    reasoning = "".join(getattr(delta, "reasoning_content", "") for delta in deltas)
    assert told[-1:] == (["ready"] if "events" in dialect else [])
    assert ("cold on box1 is ready" in reasoning) == bool(reasoning) == ("reasoning" in dialect)


async def test_the_dialect_of_dashboards_can_be_read_with_openais_package(both: Pair) -> None:
    with sync_client(both, DASHBOARD) as client:
        said = careful_loop(client, "cold")
    words = [word for word, _ in groupby(event.status for event in said)]
    assert words == ["routing", "loading", "generating", "done"]
    assert said[-1].content == TEXT


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_client_that_closes_its_stream_leaves_nothing(both: Pair, dialect: str) -> None:
    async with async_client(both, dialect) as client:
        async with await client.chat.completions.create(**chat("slow")) as stream:
            await until(lambda: in_flight(both, "slow"))
            await anext(aiter(stream))
        await until(lambda: idle(both, "slow"))


async def in_flight(both: Pair, model: str) -> int:
    rows = (await both.status())["models"]
    return next(row["in_flight"] + row["waiting"] for row in rows if row["id"] == model)


async def idle(both: Pair, model: str) -> bool:
    """nothing of it is in flight or waits"""
    return not await in_flight(both, model)


@pytest.mark.parametrize("dialect", OPENAI)
async def test_the_streaming_helper_collects_the_whole_answer(both: Pair, dialect: str) -> None:
    with sync_client(both, dialect) as client:
        messages = [{"role": "user", "content": "Hi"}]
        with client.chat.completions.stream(model="cold", messages=messages) as stream:  # type: ignore[arg-type]
            final = stream.get_final_completion()
    assert final.choices[0].message.content == TEXT


async def test_answers_without_a_stream_and_old_completions_and_embeddings_work(both: Pair) -> None:
    with sync_client(both, "events") as client:
        messages = [{"role": "user", "content": "Hi"}]
        whole = client.chat.completions.create(model="cold", messages=messages)  # type: ignore[arg-type]
        assert whole.choices[0].message.content == TEXT
        stream = client.completions.create(model="warm", prompt="Hi", stream=True)
        assert "".join(chunk.choices[0].text for chunk in stream) == TEXT
        vectors = client.embeddings.create(model="warm", input="Hi", encoding_format="float")
        assert vectors.data[0].embedding


async def test_an_alias_is_served_as_its_model(both: Pair) -> None:
    with sync_client(both, "events") as client:
        assert naive_loop(client, "gpt-4o") == TEXT


async def test_the_list_of_models_never_causes_a_load(both: Pair) -> None:
    with sync_client(both, "events") as client:
        listed = {model.id for model in client.models.list()}
    assert listed == {"warm", "cold", "broken", "dying", "slow"}
    assert (await both.status())["phase"] == "idle"


async def test_an_unknown_model_is_a_404_that_names_what_there_is(both: Pair) -> None:
    with sync_client(both, "events") as client, pytest.raises(openai.NotFoundError) as raised:
        naive_loop(client, "nobody")
    assert raised.value.code == "model_not_found"
    assert "cold" in str(raised.value)
