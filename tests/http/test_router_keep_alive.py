"""`keep_alive` of a request on its way: from the client's body to the sidecar, and no further."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.http.boxes import box, echo
from tests.http.yards import CHAT, Yard, error_of, yard


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    async with yard(tmp_path_factory.mktemp("router")) as it:
        yield it


@pytest.fixture
def it(shared: Yard) -> Yard:
    shared.reset()
    return shared


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("600", "600.000"),
        ('"1h30m"', "5400.000"),
        ("0", "0.000"),
        ("-1", "never"),
        ('"-1"', "never"),
        ("null", None),
    ],
)
async def test_the_box_is_told_and_the_engine_gets_the_body_without_it(
    it: Yard, value: str, told: str | None
) -> None:
    body = f'{{"model": "warm", "keep_alive": {value},  "messages": [1.00]}}'
    assert (await it.http.post(CHAT, content=body)).status_code == 200
    seen = await it.exchange()
    assert seen.headers.get("x-swapyard-keep-alive") == told
    assert seen.body == b'{"model": "warm",  "messages": [1.00]}'


async def test_a_client_cannot_speak_to_the_box_past_the_router(it: Yard) -> None:
    await it.http.post(CHAT, json={"model": "warm"}, headers={"x-swapyard-keep-alive": "never"})
    assert "x-swapyard-keep-alive" not in (await it.exchange()).headers


@pytest.mark.parametrize("value", ['"soon"', "true", "[]", '"1d"'])
async def test_nonsense_is_refused_before_anybody_waits(it: Yard, value: str) -> None:
    body = f'{{"model": "cold", "stream": true, "keep_alive": {value}}}'
    response = await it.http.post(CHAT, content=body)
    error = error_of(response)
    assert (response.status_code, error["code"]) == (400, "invalid_request")
    assert error["param"] == "keep_alive"
    assert not it.box.exchanges


async def test_two_wishes_are_none_that_could_be_believed(it: Yard) -> None:
    body = '{"model": "warm", "keep_alive": 1, "Keep_Alive": 2}'
    response = await it.http.post(CHAT, content=body)
    assert (response.status_code, error_of(response)["param"]) == (400, "keep_alive")


async def test_a_sidecar_takes_the_wish_and_its_engine_does_not_see_it(tmp_path: Path) -> None:
    async with box(tmp_path, {"echo": echo()}) as it:
        await it.load("echo")
        url, name = "/engines/echo/v1/any", "x-swapyard-keep-alive"
        for value in ("never", "600.000"):
            response = await it.http.post(url, json={}, headers={name: value})
            assert response.status_code == 200
            assert name not in json.loads(response.text)["headers"]
        refused = await it.http.post(url, json={}, headers={name: "soon"})
        assert (refused.status_code, error_of(refused)["code"]) == (400, "invalid_request")
        await it.unload("echo")
