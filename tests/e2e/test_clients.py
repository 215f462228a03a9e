"""OpenAI's own package, used as people use it, reads every dialect: warm, cold and failing."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.e2e.pair import Pair, fake, pair

DIALECTS = ["events", "comments", "off"]
TEXT = "tok0 tok1 tok2 tok3"


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Pair]:
    models = (
        fake("warm", "--tokens", "4")
        + fake("cold", "--tokens", "4", "--load-seconds", "0.2")
        + fake("broken", "--fail-with", "error: invalid argument: --foo")
        + fake("dying", "--tokens", "8", "--crash-at", "token:3")
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


async def naive_async_loop(client: openai.AsyncOpenAI, model: str) -> str:
    text = ""
    stream = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Hi"}], stream=True
    )
    async for chunk in stream:
        text += chunk.choices[0].delta.content or ""
    return text


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_sync_client_reads_cold_and_warm(both: Pair, dialect: str) -> None:
    with sync_client(both, dialect) as client:
        for model in ("warm", "warm", "cold", "cold"):
            assert naive_loop(client, model) == TEXT


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_async_client_reads_cold_and_warm(both: Pair, dialect: str) -> None:
    async with async_client(both, dialect) as client:
        for model in ("warm", "warm", "cold", "cold"):
            assert await naive_async_loop(client, model) == TEXT


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_load_that_fails_is_an_exception_and_never_an_empty_answer(
    both: Pair, dialect: str
) -> None:
    with sync_client(both, dialect) as client, pytest.raises(openai.APIError) as raised:
        naive_loop(client, "broken")
    assert raised.value.code == "load_failed"
    assert "invalid argument: --foo" in str(raised.value)
    async with async_client(both, dialect) as asynchronous:
        with pytest.raises(openai.APIError):
            await naive_async_loop(asynchronous, "broken")


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_engine_that_dies_in_mid_answer_is_an_exception(both: Pair, dialect: str) -> None:
    with sync_client(both, dialect) as client, pytest.raises(openai.APIError) as raised:
        naive_loop(client, "dying")
    assert raised.value.code == "engine_died"


@pytest.mark.parametrize("dialect", DIALECTS)
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
    assert listed == {"warm", "cold", "broken", "dying"}
    assert (await both.status())["phase"] == "idle"


async def test_an_unknown_model_is_a_404_that_names_what_there_is(both: Pair) -> None:
    with sync_client(both, "events") as client, pytest.raises(openai.NotFoundError) as raised:
        naive_loop(client, "nobody")
    assert raised.value.code == "model_not_found"
    assert "cold" in str(raised.value)
