"""The way between a router and its box is broken, or its sidecar does not run: nobody is answered
wrong, nothing is started twice, and all is well when it is over.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from tests.e2e.pair import Told, ask, chat
from tests.faults.streams import CHAT, ChaosYard, engine, frozen, got, yard_over_chaos
from tests.harness import frames, until

MODEL = "kept"
TOKENS = 40
FLAPS = 5
SAYS = ("--tokens", str(TOKENS), "--tokens-per-second", "60")
WHOLE = " ".join(f"tok{number}" for number in range(TOKENS))


@pytest.fixture(scope="module")
async def it(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ChaosYard]:
    folder = tmp_path_factory.mktemp("parted")
    async with yard_over_chaos(folder, engine(folder, MODEL, *SAYS), MODEL) as it:
        yield it


@asynccontextmanager
async def streaming(it: ChaosYard) -> AsyncIterator[asyncio.Task[Told]]:
    """One whose answer has begun before the block does."""
    begun = len(it.noted(MODEL, "request"))
    task = asyncio.create_task(ask(it.http, chat(MODEL)))
    await until(lambda: len(it.noted(MODEL, "request")) > begun)
    yield task
    await task


async def all_is_well(it: ChaosYard) -> None:
    """Its engine is the first one, and serves."""
    told = await ask(it.http, chat(MODEL))
    assert told.text == WHOLE
    await it.idle(MODEL)
    assert len(it.noted(MODEL, "started")) == 1


@pytest.mark.parametrize(
    "ways",
    [{}, {"outward": False}, {"inward": False}],
    ids=["drop", "inward", "outward"],
)
async def test_f66_what_a_short_partition_holds_up_goes_on_after_it(
    it: ChaosYard, ways: dict[str, bool]
) -> None:
    """It lasts until the engine has said all, also what nobody hears."""
    answered = len(it.noted(MODEL, "answered"))
    async with streaming(it) as begun:
        it.inside.part(**ways)
        waits = asyncio.create_task(ask(it.http, chat(MODEL)))
        await until(lambda: len(it.noted(MODEL, "answered")) > answered)
        assert not waits.done()
        assert ways.get("outward") is False or not begun.done()
        it.inside.heal()
    for told in (begun.result(), await waits):
        assert (told.text, told.done) == (WHOLE, True)
    await all_is_well(it)


@pytest.mark.parametrize("parted", [False, True], ids=["reset", "parted for longer than they last"])
async def test_f66_connections_that_are_reset_end_their_answers_once_and_nothing_else(
    it: ChaosYard, parted: bool
) -> None:
    async with it.http.stream("POST", CHAT, json=chat(MODEL)) as response:
        heard = frames(response)
        await anext(heard)
        if parted:
            it.inside.part()
        it.inside.reset()
        it.inside.heal()
        *others, last = [frame.data async for frame in heard]
    assert json.loads(last)["error"]["code"] == "engine_died"
    assert not [data for data in others if "error" in json.loads(data)]
    await all_is_well(it)


async def test_f66_a_way_that_flaps_starts_nothing_and_loses_nobody(it: ChaosYard) -> None:
    asked = []
    for _ in range(FLAPS):
        async with it.inside.down():
            asked.append(asyncio.create_task(ask(it.http, chat(MODEL))))
            await until(lambda: it.inside.connections == 0)
    for told in [await task for task in asked]:
        assert told.done or told.error is not None
        assert WHOLE.startswith(told.text)
    await all_is_well(it)


async def test_f66_a_way_that_is_late_by_chance_changes_no_byte(it: ChaosYard) -> None:
    it.inside.jitter = 0.05
    told = await ask(it.http, chat(MODEL))
    it.inside.jitter = 0.0
    assert (told.text, told.done) == (WHOLE, True)
    await all_is_well(it)


async def test_f31_a_box_that_is_frozen_or_parted_for_long_is_missed_and_starts_nothing_twice(
    tmp_path: Path,
) -> None:
    """Each in a fleet of its own, at the same time: it takes long."""
    async with asyncio.TaskGroup() as fleets:
        for missing in (is_frozen, is_parted):
            fleets.create_task(misses(tmp_path / missing.__name__, missing))


def is_frozen(it: ChaosYard) -> AbstractContextManager[None]:
    return frozen(it.pair.sidecar.program.pid)


@contextmanager
def is_parted(it: ChaosYard) -> Iterator[None]:
    it.inside.part()
    try:
        yield
    finally:
        it.inside.heal()


async def misses(
    folder: Path, missing: Callable[[ChaosYard], AbstractContextManager[None]]
) -> None:
    """Longer than a box's three heartbeats and the router's `box_grace`."""
    patience = "box_grace: 300ms\nprogress: {interval: 100ms}"
    models = engine(folder, MODEL, *SAYS)
    async with yard_over_chaos(folder, models, MODEL, router_yaml=patience) as it:
        with missing(it):
            refused = [await got(it.http, chat(MODEL), "events") for _ in range(2)]
        codes = [told.error and told.error["code"] for told in refused]
        assert codes == ["box_unreachable"] * 2

        async def back() -> bool:
            """the router hears the box again"""
            return (await it.http.get("/readyz")).status_code == 200

        await until(back)
        await all_is_well(it)
