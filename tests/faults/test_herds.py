"""F49: many wait for one model whose load fails, and come again at once, and again."""

import asyncio
from pathlib import Path

import httpx

from tests.e2e.pair import chat
from tests.faults.streams import CHAT, Yard, engine, yard
from tests.harness import client

CLIENTS = 200
TRIES = 3  # of each: as OpenAI's clients do, only without any pause


async def test_f49_a_herd_that_retries_causes_one_load_at_a_time_and_is_sent_away_apart(
    tmp_path: Path,
) -> None:
    models = engine(tmp_path, "fails", "--load-seconds", "0.5", "--crash-at", "load")
    async with yard(tmp_path, models + engine(tmp_path, "plain"), "plain") as it:
        answers = await asyncio.gather(*(insist(it) for _ in range(CLIENTS)))
        every = [answer for tries in answers for answer in tries]
        assert len(every) == CLIENTS * TRIES  # each request has its one end
        assert {answer.status_code for answer in every} == {503}
        assert {answer.json()["error"]["code"] for answer in every} == {"load_failed"}
        starts, ends = ([e["at"] for e in it.noted("fails", w)] for w in ("started", "exit"))
        assert len(starts) == TRIES  # the whole herd had one load, each time
        assert all(end < start for end, start in zip(ends, starts[1:], strict=False))
        late = await asyncio.gather(*(insist(it, tries=1) for _ in range(CLIENTS)))
        told = {int(answer.headers["retry-after"]) for [answer] in late}
        assert len(told) > 2, "all would come back in the same second"
        assert len(it.noted("fails", "started")) == TRIES
        await it.idle("fails")
        await it.well("plain")


async def insist(it: Yard, tries: int = TRIES) -> list[httpx.Response]:
    async with client(it.pair.router.url, timeout=30) as http:
        return [await http.post(CHAT, json=chat("fails", stream=False)) for _ in range(tries)]
