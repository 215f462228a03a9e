"""F07, F12: engines that are frozen, or answer `/health` and nobody else. They are found by their
silence to all their requests, and started again.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import psutil
import pytest

from tests.e2e.pair import ask, chat
from tests.faults.streams import Json, Yard, asking, engine, got, posted, yard
from tests.harness import client, until

SILENCE = "silence_timeout: 500ms, stop_timeout: 1s"
ENDLESS = ("--tokens", "1000000", "--tokens-per-second", "50")


@pytest.fixture(scope="module")
async def it(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    """`zombie` is one while the file of that name is there."""
    folder = tmp_path_factory.mktemp("stalls")
    models = [
        engine(folder, "frozen", *ENDLESS, more=f", {SILENCE}"),
        engine(folder, "zombie", "--zombie-health", str(folder / "zombie"), more=f", {SILENCE}"),
        engine(folder, "mixed", *ENDLESS, more=f", {SILENCE}"),
        engine(folder, "looked-at", "--slots", "[]", more=f", {SILENCE}"),
    ]
    async with yard(folder, "".join(models)) as it:
        yield it


@pytest.fixture(autouse=True)
async def _nothing_stays_loaded(it: Yard) -> AsyncIterator[None]:
    yield
    async with client(it.pair.sidecar.url) as box:
        for model in ("frozen", "zombie", "mixed", "looked-at"):
            await box.post(f"/models/{model}/unload")

        async def empty() -> bool:
            """every model is idle"""
            models = (await it.pair.status())["models"]
            return all(model["phase"] == "idle" for model in models)

        await until(empty)


async def failed(it: Yard, model: str) -> Json:
    """What the Status says of its end."""

    async def told() -> Json | None:
        """an error of the model"""
        return (await it.of(model))["error"]

    return dict(await until(told))


async def test_f07_an_engine_that_is_frozen_in_a_stream_is_found_and_started_again(
    it: Yard,
) -> None:
    reader, writer = await posted(it.pair.router.url, chat("frozen"))
    await reader.readuntil(b"tok1")
    (first,) = it.noted("frozen", "started")
    os.kill(first["pid"], signal.SIGSTOP)
    await asyncio.wait_for(reader.readuntil(b'data: {"error":'), 10)
    assert b'"engine_stalled"' in await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    assert (await failed(it, "frozen"))["cause"] == "stalled"
    reader, writer = await posted(it.pair.router.url, chat("frozen"))
    await asyncio.wait_for(reader.readuntil(b"tok1"), 10)
    writer.close()
    await it.idle("frozen")
    assert len(it.noted("frozen", "started")) == 2
    assert not psutil.pid_exists(first["pid"])


async def test_f12_an_engine_that_answers_only_health_checks_is_found_and_started_again(
    it: Yard,
) -> None:
    (it.folder / "zombie").touch()
    before = await got(it.http, asking("zombie"))
    assert (before.status, before.code) == (504, "engine_stalled")
    error = await failed(it, "zombie")
    assert (error["code"], error["cause"]) == ("engine_stalled", "stalled")
    assert error["retry_in_s"] is None
    (it.folder / "zombie").unlink()
    await it.well("zombie")
    assert len(it.noted("zombie", "started")) == 2


async def test_f12_one_answer_in_one_piece_may_take_too_long_and_two_are_a_stall(it: Yard) -> None:
    await it.well("zombie")
    started = len(it.noted("zombie", "started"))
    (it.folder / "zombie").touch()
    both = (got(it.http, asking("zombie", stream=False)) for _ in range(2))
    for late in await asyncio.gather(*both):
        assert (late.status, late.code) == (504, "engine_stalled")
    assert ((await it.of("zombie"))["phase"], (await it.of("zombie"))["error"]) == ("ready", None)
    again = await got(it.http, asking("zombie", stream=False))
    assert (again.status, again.code) == (504, "engine_stalled")
    assert (await failed(it, "zombie"))["cause"] == "stalled"
    (it.folder / "zombie").unlink()
    await it.well("zombie")
    assert len(it.noted("zombie", "started")) == started + 1


async def test_f12_who_waits_for_a_slot_of_a_zombie_is_served_by_the_next_engine(
    it: Yard,
) -> None:
    await it.well("zombie")
    started, asked = (len(it.noted("zombie", what)) for what in ("started", "request"))
    (it.folder / "zombie").touch()
    stuck = [asyncio.ensure_future(got(it.http, asking("zombie"))) for _ in range(16)]
    await until(lambda: len(it.noted("zombie", "request")) == asked + 16)
    waits = asyncio.ensure_future(ask(it.http, chat("zombie")))

    async def counted() -> bool:
        return bool((await it.of("zombie"))["waiting"] == 1)

    await until(counted)
    (it.folder / "zombie").unlink()
    assert [(await each).code for each in stuck] == ["engine_stalled"] * 16
    assert (await waits).done
    assert len(it.noted("zombie", "started")) == started + 1


async def test_f12_the_third_stall_in_a_row_backs_off_and_tells_those_who_ask(it: Yard) -> None:
    await it.well("zombie")
    (it.folder / "zombie").touch()
    for _ in range(3):
        assert (await got(it.http, asking("zombie"))).code == "engine_stalled"

    async def backs_off() -> bool:
        now = await it.of("zombie")
        return now["phase"] == "idle" and (now["error"] or {}).get("retry_in_s", 0) > 5

    await until(backs_off)
    refused = await got(it.http, asking("zombie"))
    assert (refused.status, refused.code) == (503, "load_failed")
    assert refused.error is not None
    assert refused.error["cause"] == "stalled"
    assert 1 <= int(refused.headers["retry-after"]) <= 14  # 10 s and two fifths more
    (it.folder / "zombie").unlink()


async def test_f12_an_engine_that_is_silent_to_one_and_not_to_others_has_not_stalled(
    it: Yard,
) -> None:
    streams = await posted(it.pair.router.url, chat("mixed"))
    await asyncio.wait_for(streams[0].readuntil(b"tok1"), 10)
    for where in ("prefill", "token:3"):
        silent = await got(it.http, asking("mixed", hang_at=where))
        assert silent.code == "engine_stalled"

    async def serves_one() -> bool:
        return bool((await it.of("mixed"))["in_flight"] == 1)

    await until(serves_one)
    now = await it.of("mixed")
    assert (now["phase"], now["error"]) == ("ready", None)
    await asyncio.wait_for(streams[0].readuntil(b"tok"), 10)
    streams[1].close()
    await it.idle("mixed")
    assert len(it.noted("mixed", "started")) == 1


async def test_f12_a_stalled_engine_that_shows_its_slots_has_stalled_all_the_same(
    it: Yard,
) -> None:
    stuck = asyncio.ensure_future(got(it.http, asking("looked-at", hang_at="prefill")))

    async def looked_often() -> bool:
        """its slots are shown until it has failed"""
        await it.http.get("/slots", params={"model": "looked-at"})
        return stuck.done()

    await until(looked_often)
    assert (await stuck).code == "engine_stalled"
    assert (await failed(it, "looked-at"))["cause"] == "stalled"
