"""Keys on both sides of the real pair: clients show the router theirs, it shows its box its own."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import openai
import pytest

from tests.e2e.pair import ask, chat, fake, until_heard
from tests.harness import Program, Server, client, router, sidecar, until
from tests.http.boxes import echo
from tests.keys import EVERY_SCOPE, bearer, entry, secret

CLIENTS = [entry("laptop", "inference"), entry("monitor", "read")]
ROUTERS = [entry("router", "inference", "read"), entry("half", "read"), entry("all", *EVERY_SCOPE)]
ECHO = f"  echo: {json.dumps(echo(env={'ENGINE_KEY': '{key}'}))}\n"
MODELS = fake("warm", "--tokens", "4") + fake("cold", "--tokens", "4") + ECHO
LOADED = ("warm", "echo")  # for as long as the box lives, so that no test leaves an engine behind
TEXT = "tok0 tok1 tok2 tok3"


@pytest.fixture(scope="module")
async def box(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    text = f"memory_limit: 2GiB\nkeys: {json.dumps(ROUTERS)}\nmodels:\n{MODELS}"
    async with sidecar(tmp_path_factory.mktemp("box"), text) as server:
        for model in LOADED:
            await by_hand(server, model, "load", "ready")
        yield server


async def by_hand(box: Server, model: str, verb: str, phase: str) -> None:
    async with client(box.url) as http:
        http.headers.update(bearer("all"))
        assert (await http.post(f"/models/{model}/{verb}")).status_code == 202

        async def there() -> bool:
            models = (await http.get("/models/status")).json()["models"]
            return any(m["id"] == model and m["phase"] == phase for m in models)

        await until(there)


@asynccontextmanager
async def in_front(box: Server, tmp: Path, name: str | None) -> AsyncIterator[Server]:
    """A router that shows its box the key of that name."""
    of_box = {"url": box.url, "key": secret(name) if name else ""}
    text = f"sidecars: [{json.dumps(of_box)}]\nkeys: {json.dumps(CLIENTS)}"
    async with router(tmp, text) as server:
        yield server


@pytest.fixture(scope="module")
async def front(box: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with in_front(box, tmp_path_factory.mktemp("router"), "router") as server:
        async with client(server.url) as http:
            await until_heard(http)
        yield server


@pytest.fixture
async def http(front: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with client(front.url, timeout=30) as http:
        yield http


# Clients.


def openai_client(front: Server, key: str) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{front.url}/v1",
        api_key=key,
        max_retries=0,
        http_client=httpx.Client(trust_env=False, timeout=20),
    )


def text_of(client: openai.OpenAI) -> str:
    messages = [{"role": "user", "content": "Hi"}]
    stream = client.chat.completions.create(model="warm", messages=messages, stream=True)  # type: ignore[arg-type]
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


async def test_openais_client_is_let_in_with_its_key(front: Server) -> None:
    with openai_client(front, secret("laptop")) as client:
        assert {model.id for model in client.models.list()} == {"warm", "cold", "echo"}
        assert text_of(client) == TEXT


async def test_openais_client_raises_what_it_should_without_a_good_key(front: Server) -> None:
    with openai_client(front, "wrong") as client, pytest.raises(openai.AuthenticationError) as no:
        text_of(client)
    assert no.value.code == "unauthorized"
    with openai_client(front, secret("monitor")) as client:
        assert {model.id for model in client.models.list()} == {"warm", "cold", "echo"}
        with pytest.raises(openai.PermissionDeniedError, match="scope inference"):
            text_of(client)


@pytest.mark.parametrize("header", ["x-api-key", "api-key"])
async def test_the_headers_of_other_clients_do_as_well(
    http: httpx.AsyncClient, header: str
) -> None:
    told = await ask(http, chat("warm"), {header: secret("laptop")})
    assert (told.status, told.text) == (200, TEXT)


async def test_each_shows_its_own_key_and_nobody_elses(http: httpx.AsyncClient) -> None:
    body = {"model": "echo"}
    answer = await http.post("/v1/x", json=body, headers=bearer("laptop"))
    seen = answer.json()
    assert seen["headers"]["authorization"] == f"Bearer {seen['env']['ENGINE_KEY']}"
    for name in ("laptop", "router"):
        assert secret(name) not in answer.text


# The router.


async def test_what_waits_is_loaded_told_and_served_with_keys_on_both_sides(
    box: Server, http: httpx.AsyncClient
) -> None:
    told = await ask(http, chat("cold"), bearer("laptop"))
    assert told.phases[-2:] == ["starting", "ready"]
    assert told.text == TEXT
    await by_hand(box, "cold", "unload", "idle")


async def test_what_the_router_hears_of_its_box_is_shown_to_those_who_may_read(
    http: httpx.AsyncClient,
) -> None:
    fleet = await http.get("/api/fleet", headers=bearer("monitor"))
    assert [model["id"] for model in fleet.json()["boxes"][0]["models"]] == ["warm", "cold", "echo"]
    assert (await http.get("/api/fleet", headers=bearer("laptop"))).status_code == 403


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("wrong", "the box does not take this router's key"),
        (None, "the box wants a key"),
        ("half", "this router's key needs the scopes inference and read at the box"),
    ],
)
async def test_a_key_that_the_box_does_not_take_is_told_once_in_plain_words(
    box: Server, tmp_path: Path, name: str | None, why: str
) -> None:
    before = refusals(box)
    async with in_front(box, tmp_path, name) as server, client(server.url) as http:
        await until(lambda: refusals(box) >= before + 3)  # it tries on
        log = server.program.log()
        heard = (await http.get("/readyz")).status_code
    warnings = [line for line in log.splitlines() if '"warning"' in line]
    assert [json.loads(line)["why"].partition(":")[0] for line in warnings] == [why]
    assert heard == (200 if name == "half" else 503)
    assert "sk-" not in log


def refusals(box: Server) -> int:
    return box.program.log().count('"not let in"')


# The command.


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (None, "wants a key: put one with the scope `read` into the environment variable"),
        ("wrong", "does not know the key in SWAPYARD_KEY"),
        (secret("laptop"), "The key in SWAPYARD_KEY may not see this: use one with the scope"),
        ("sk-two words", "SWAPYARD_KEY holds something that is no key"),
        (secret("monitor") + "\n", "BOX "),
    ],
)
async def test_the_command_takes_its_key_from_the_environment_and_says_what_to_do(
    front: Server, tmp_path: Path, key: str | None, said: str
) -> None:
    swapyard = str(Path(sys.executable).parent / "swapyard")
    env = {} if key is None else {"SWAPYARD_KEY": key}
    async with Program([swapyard, "status", "--url", front.url], tmp_path, env=env) as status:
        code = await status.wait()
    assert said in status.log()
    assert "sk-" not in status.log()
    assert (code == 0) is said.startswith("BOX")
