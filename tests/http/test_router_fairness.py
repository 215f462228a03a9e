"""Tenants at one router: their turns, their limits, and what who may not even wait is told."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from shared.status import Phase
from tests.fakes.box import Exchange
from tests.harness import frames, until
from tests.http.yards import CHAT, Yard, error_of, yard
from tests.keys import bearer, entry

TENANTS = [
    {**entry("laptop", "inference", "read"), "tenant": "me"},
    {**entry("phone", "inference"), "tenant": "me"},
    entry("guest", "inference"),
    {**entry("boss", "inference"), "priority": 1},
]


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    settings = {"keys": TENANTS, "queue": {"max_waiting": 8}}
    async with yard(tmp_path_factory.mktemp("router"), **settings) as it:
        yield it


@pytest.fixture
async def it(shared: Yard) -> Yard:
    shared.reset()
    await until(lambda: shared.box.waiting("cold") == 0)
    return shared


async def line_up(it: Yard, *keys: str, behind: int = 0) -> list[asyncio.Task[httpx.Response]]:
    """One request for `cold` of each key, which wait in this order, `behind` so many others."""
    asked: list[asyncio.Task[httpx.Response]] = []
    for key in keys:
        headers = bearer(key) | {"x-request-id": f"{key}-{len(asked)}"}
        request = it.asking("cold", stream=False, headers=headers)
        asked.append(asyncio.ensure_future(it.http.send(request)))
        await until(lambda: it.box.waiting("cold") == behind + len(asked))
    return asked


async def send_away(it: Yard, asked: list[asyncio.Task[httpx.Response]]) -> None:
    for each in asked:
        each.cancel()
    await until(lambda: it.box.waiting("cold") == 0)


async def refused(it: Yard, key: str) -> httpx.Response:
    response = await it.http.send(it.asking("cold", headers=bearer(key)))
    assert response.headers["x-should-retry"] == "true"
    return response


async def test_tenants_are_served_in_turn_and_the_more_urgent_key_before_them(it: Yard) -> None:
    served: list[str] = []

    async def notes(asked: Exchange) -> None:
        served.append(asked.headers["x-request-id"])
        await asked.json(200, {})

    it.box.engine = notes
    asked = await line_up(it, "laptop", "laptop", "phone", "guest", "guest", "boss")
    it.box.say("cold", phase=Phase.READY, slots=1)
    await asyncio.gather(*asked)
    assert served == ["boss-5", "laptop-0", "guest-3", "laptop-1", "guest-4", "phone-2"]
    it.box.say("cold", phase=Phase.IDLE, slots=4)


async def test_a_tenant_that_fills_its_part_leaves_the_other_its_own(it: Yard) -> None:
    asked = await line_up(it, "laptop", "laptop", "phone", "laptop")
    for key in ("laptop", "phone"):
        response = await refused(it, key)
        assert (response.status_code, error_of(response)["code"]) == (429, "tenant_limit")
        assert error_of(response)["message"] == "4 of your requests wait already."
        assert int(response.headers["retry-after"]) >= 1
    await send_away(it, asked + await line_up(it, "guest", behind=4))


async def test_a_full_line_says_when_to_come_back(it: Yard) -> None:
    it.box.say("cold", waiting=1, ready_in_s=30.0, load_source="history")
    asked = await line_up(it, *["laptop"] * 4, *["guest"] * 4)
    response = await refused(it, "boss")
    assert (response.status_code, error_of(response)["code"]) == (503, "queue_full")
    assert 20 <= int(response.headers["retry-after"]) <= 36  # 30 s, a fifth more or less
    await send_away(it, asked)
    it.box.say("cold", waiting=0, ready_in_s=None)


async def test_who_waits_for_a_turn_is_told_how_long(it: Yard) -> None:
    it.box.say("cold", waiting=1, ready_in_s=30.0, load_source="history", service_s=4.0, slots=1)
    ahead = await line_up(it, "guest")
    request = it.asking("cold", headers=bearer("laptop"))
    response = await it.http.send(request, stream=True)
    told = json.loads((await anext(frames(response))).data)["model_switching"]
    await response.aclose()
    assert (told["step"], told["position"]) == ("waiting for a turn", 2)
    assert 30 < told["eta_s"] <= 34
    assert told["eta_source"] == "history"
    await send_away(it, ahead)
    it.box.say("cold", waiting=0, ready_in_s=None, service_s=None, slots=4)


async def test_a_tenants_limit_holds_without_keys_too(tmp_path: Path) -> None:
    async with yard(tmp_path, queue={"max_waiting_per_tenant": 1}) as it:
        waiting = await it.ask("cold")
        response = await it.http.post(CHAT, json={"model": "cold"})
        assert (response.status_code, error_of(response)["code"]) == (429, "tenant_limit")
        await waiting.aclose()
