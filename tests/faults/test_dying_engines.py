"""F01 to F03: engines that crash in a load or in the midst of an answer, and loads that hang."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest

from tests.e2e.pair import ask, chat
from tests.faults.streams import Yard, engine, got, yard
from tests.harness import until

AT_ONCE = 2.0  # seconds; what is promised is 200 ms, and measured by `make bench`
LOAD = ("--load-seconds", "0.2")
CRASHES = {"exits": (), "faults": ("--crash-with", "SEGV"), "is-killed": ("--crash-with", "KILL")}
ENDED = {
    "exits": "exited with code 1",
    "faults": "ended by SIGSEGV",
    "is-killed": "ended by SIGKILL",
}


@pytest.fixture(scope="module")
async def it(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    folder = tmp_path_factory.mktemp("faults")
    deaf = ", stall_timeout: 300ms, stop_timeout: 300ms"
    crash = (*LOAD, "--crash-at", "load")
    models = "".join(engine(folder, id, *crash, *how) for id, how in CRASHES.items())
    models += engine(folder, "always", *crash) + engine(folder, "plain")
    dies = ("--crash-at", "token:5", "--tokens-per-second", "50")
    models += engine(folder, "dies", *dies, more=", slots: 1")
    models += engine(folder, "hangs", "--stall", more=", stall_timeout: 300ms")
    models += engine(folder, "hangs-deaf", "--stall", "--deaf", more=deaf)
    async with yard(folder, models, "plain") as it:
        yield it


async def nothing_is_left(it: Yard, model: str) -> dict[str, Any]:
    """Neither a process nor memory nor a slot nor a place in the line. Its part of the Status."""

    async def gone() -> dict[str, Any] | None:
        """the model is idle and holds nothing"""
        now = await it.of(model)
        counts = (now["in_flight"], now["waiting"])
        return now if (now["phase"], *counts) == ("idle", 0, 0) else None

    found = await until(gone)
    assert not any(psutil.pid_exists(line["pid"]) for line in it.noted(model, "started"))
    return found


# F01: a crash while it loads.


@pytest.mark.parametrize("model", CRASHES)
async def test_f01_a_crash_while_loading_is_told_at_once_to_all_who_wait_with_its_last_words(
    it: Yard, model: str
) -> None:
    """Their headers are out, so it is in their streams; who asked for no stream gets a 503."""
    plain = it.http.post("/v1/chat/completions", json=chat(model, stream=False))
    *told, answer = await asyncio.gather(*(ask(it.http, chat(model)) for _ in range(3)), plain)
    assert len(it.noted(model, "started")) == 1  # nobody asked again: it was tried once
    assert time.monotonic() - it.noted(model, "exit")[0]["at"] < AT_ONCE
    assert not any(one.done for one in told)
    for error in (*(one.error for one in told), answer.json()["error"]):
        assert (error["code"], error["cause"]) == ("load_failed", "crashed")
        assert ENDED[model] in error["message"]
        assert error["log_tail"][-1] == "fake engine: crashed half-way through the load"
    assert (answer.status_code, answer.headers["x-should-retry"]) == (503, "false")
    left = await nothing_is_left(it, model)
    assert left["error"]["cause"] == "crashed"


async def test_f01_loads_that_fail_again_and_again_are_tried_one_by_one_and_then_later(
    it: Yard,
) -> None:
    async def insist() -> None:
        for _ in range(4):
            assert not (await ask(it.http, chat("always"))).done

    await asyncio.gather(*(insist() for _ in range(5)))
    starts, ends = ([e["at"] for e in it.noted("always", what)] for what in ("started", "exit"))
    assert len(starts) == len(ends) == 3  # then it backs off
    assert all(end < start for end, start in zip(ends, starts[1:], strict=False))
    left = await nothing_is_left(it, "always")
    assert 0 < left["error"]["retry_in_s"] <= 10
    answer = await it.http.post("/v1/chat/completions", json=chat("always", stream=False))
    assert answer.status_code == 503
    assert 0 < int(answer.headers["retry-after"]) <= 15
    assert len(it.noted("always", "started")) == 3


# F02: a crash in the midst of an answer.


async def test_f02_a_stream_has_all_tokens_up_to_the_crash_and_ends_in_an_error(it: Yard) -> None:
    told = await ask(it.http, chat("dies"))
    assert told.text == "tok0 tok1 tok2 tok3 tok4"
    assert told.error is not None
    assert told.error["code"] == "engine_died"
    assert not told.done
    left = await nothing_is_left(it, "dies")
    assert (left["error"]["code"], left["error"]["cause"]) == ("engine_died", "crashed")


async def test_f02_who_asked_for_no_stream_gets_a_502(it: Yard) -> None:
    answer = await got(it.http, chat("dies", stream=False))
    assert (answer.status, answer.code) == (502, "engine_died")
    await nothing_is_left(it, "dies")


async def test_f02_it_starts_again_for_those_who_wait(it: Yard) -> None:
    """With one slot: they are in the line when the engine dies. One of them may be on its way to
    the engine at that very moment, and be broken off with it."""
    before = len(it.noted("dies", "started"))
    first = asyncio.ensure_future(ask(it.http, chat("dies")))
    await until(lambda: is_counted(it, "dies", 1))
    waiting = [ask(it.http, {**chat("dies"), "max_tokens": 2}) for _ in range(4)]
    others = await asyncio.gather(*waiting)
    assert (await first).error is not None
    served = [told.text for told in others if told.done]
    assert served == ["tok0 tok1"] * len(served)
    assert len(served) >= 3
    assert len(it.noted("dies", "started")) == before + 2
    assert (await ask(it.http, chat("dies"))).error is not None  # and leaves nothing behind
    await nothing_is_left(it, "dies")


async def is_counted(it: Yard, model: str, many: int) -> bool:
    """so many wait for it, or are served"""
    now = await it.of(model)
    return bool(now["waiting"] + now["in_flight"] == many)


# F03: a load that hangs.


@pytest.mark.parametrize("model", ["hangs", "hangs-deaf"])
async def test_f03_a_load_that_hangs_is_ended_and_said_so(it: Yard, model: str) -> None:
    plain = it.http.post("/v1/chat/completions", json=chat(model, stream=False))
    told, answer = await asyncio.gather(ask(it.http, chat(model)), plain)
    assert answer.status_code == 503
    for error in (told.error, answer.json()["error"]):
        assert (error["code"], error["cause"]) == ("load_failed", "stalled")
    assert "starting" in told.phases
    await nothing_is_left(it, model)
    await it.well("plain")
