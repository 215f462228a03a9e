"""F33 and F34: the wall clock is set anew, the machine sleeps: what lasts how long is not changed.

Both programs and their engines run on the same clocks, which the test moves.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.pair import ask, chat, pair
from tests.faults.preloads import Clocks
from tests.faults.streams import Yard, engine
from tests.harness import client, until

HOUR, DAY, YEAR = 3600, 86400, 365.25 * 86400
# An hour is what summer time makes where a machine keeps local time. Linux lets nobody set a clock
# before 1970 or after 2232 (TIME_SETTOD_SEC_MAX), and Python reads none after 2262.
JUMPS = [HOUR, -HOUR, DAY, -DAY, 200 * YEAR, 60 - time.time()]


@dataclass(frozen=True)
class Shifted(Yard):
    clocks: Clocks

    async def unload(self, model: str) -> None:
        async with client(self.pair.sidecar.url) as http:
            await http.post(f"/models/{model}/unload")
        await until(lambda: self.is_in(model, "idle"))

    async def is_in(self, model: str, phase: str) -> bool:
        return bool((await self.of(model))["phase"] == phase)

    async def status(self) -> dict[str, Any]:
        return await self.pair.status()


@asynccontextmanager
async def shifted(folder: Path, models: str, *loaded: str) -> AsyncIterator[Shifted]:
    clocks = Clocks.made(folder)
    async with pair(folder, models, env=clocks.env, router_env=clocks.env) as both:
        for model in loaded:
            assert (await ask(both.http, chat(model))).done
        yield Shifted(both, folder, clocks)


@pytest.fixture(scope="module")
async def it(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shifted]:
    folder = tmp_path_factory.mktemp("clocks")
    models = engine(folder, "stays", more=", keep_alive: 30m")
    models += engine(folder, "leaves", more=", keep_alive: 300ms")
    models += engine(folder, "fails", "--crash-at", "load")
    models += engine(folder, "slow", "--first-token-seconds", "0.3", more=", slots: 1")
    models += engine(folder, "blocked", "--no-listen")
    async with shifted(folder, models, "stays", "slow") as it:
        for _ in range(3):
            assert not (await ask(it.http, chat("fails"))).done
        yield it


# F33: the wall clock is set.


@pytest.mark.parametrize("jump", JUMPS)
async def test_f33_the_wall_clock_decides_nothing(it: Shifted, jump: float) -> None:
    """Not when a model leaves, nor how long one backs off, nor who has waited too long, nor for
    how long a box knows what is wanted."""
    it.clocks.jump()
    assert (await ask(it.http, chat("leaves"))).done
    waiting = [asyncio.ensure_future(ask(it.http, chat("slow"))) for _ in range(3)]
    loading = asyncio.ensure_future(ask(it.http, chat("blocked")))
    await until(lambda: it.is_in("blocked", "starting"))
    before = await it.status()
    it.clocks.jump(wall=jump)

    async def shown() -> dict[str, Any] | None:
        """the Status tells the wall clock's new time, so the programs have seen it jump"""
        now = await it.status()
        return now if abs(now["at"] - time.time() - jump) < 60 else None

    now = await until(shown)
    for model, field in (("stays", "expires_in_s"), ("fails", "error")):
        old, new = (
            next(m[field] for m in status["models"] if m["id"] == model) for status in (before, now)
        )
        left = [one["retry_in_s"] if field == "error" else one for one in (old, new)]
        assert 0 <= left[0] - left[1] < 5, (model, left)
    assert await it.is_in("blocked", "starting")
    assert (await it.of("blocked"))["waiting"] == 1
    for told in await asyncio.gather(*waiting):
        assert told.done
    await until(lambda: it.is_in("leaves", "idle"))  # its own time, and no other, has passed
    assert await it.is_in("stays", "ready")
    loading.cancel()
    await asyncio.wait([loading])
    await it.idle("blocked")
    await it.unload("blocked")


# F34: the machine was asleep.


async def test_f34_sleep_is_no_idleness(it: Shifted) -> None:
    """Linux's monotonic clock stands still meanwhile; only the wall clock has gone on."""
    it.clocks.jump()
    assert (await ask(it.http, chat("stays"))).done
    before = await it.of("stays")
    it.clocks.jump(wall=8 * HOUR)

    async def told() -> bool:
        """the Status tells the wall clock's new time"""
        return bool(abs((await it.status())["at"] - time.time() - 8 * HOUR) < 60)

    await until(told)
    after = await it.of("stays")
    assert after["phase"] == "ready"
    assert abs(before["expires_in_s"] - after["expires_in_s"]) < 60


async def test_f34_a_monotonic_clock_that_jumps_ends_nothing_but_what_is_due(
    tmp_path: Path,
) -> None:
    """As that of a virtual machine may, whose host was asleep."""
    models = "".join(engine(tmp_path, f"due-{n}", more=", keep_alive: 30m") for n in range(3))
    models += engine(tmp_path, "later", more=", keep_alive: 3h") + engine(tmp_path, "never")
    every = [*(f"due-{n}" for n in range(3)), "later", "never"]
    async with shifted(tmp_path, models, *every) as it:
        it.clocks.jump(monotonic=HOUR)
        for n in range(3):
            await until(lambda n=n: it.is_in(f"due-{n}", "idle"))
        for model in ("later", "never"):
            assert await it.is_in(model, "ready")
            assert len(it.noted(model, "started")) == 1
        for model in every:
            await it.well(model)
