"""The memory of a GPU, from the real NVML binding over a fake driver to what a client is told.

Rule: the driver's figures move with the engines' processes; a test changes only what others do.
"""

import asyncio
import json
from pathlib import Path

import pytest

from tests.e2e.cards import GIB, Driver, measured, model, of
from tests.e2e.pair import ask, chat, pair
from tests.harness import until


@pytest.fixture
def driver(tmp_path: Path, fake_nvml: Path) -> Driver:
    it = Driver(fake_nvml, tmp_path)
    it.say()
    return it


@pytest.mark.parametrize("pids", ["foreign-pids", "untold-use", ""])
async def test_models_of_unknown_need_stay_together_once_each_was_measured(
    tmp_path: Path, driver: Driver, pids: str
) -> None:
    driver.say(pids, used=2)
    models = model("a", takes=6) + model("b", takes=6)
    async with pair(tmp_path, models, env=driver.env) as it:
        assert of(await it.status(), "a")["memory_source"] == "unknown"
        for name in ("a", "b"):
            assert (await ask(it.http, chat(name))).done
            known = await measured(it, name)
            assert (known["memory_bytes"], known["memory_source"]) == (6 * GIB, "learned")
        assert (await ask(it.http, chat("a"))).done
        assert await it.loaded("b")

        async def adds_up() -> bool:
            """what is used is what both took and what others take"""
            gpu = (await it.status())["memory"][0]
            shown = [gpu["reserved"], gpu["used"], gpu["strangers"]]
            return shown == [12 * GIB, 14 * GIB, 2 * GIB]

        await until(adds_up)
    async with pair(tmp_path, models, env=driver.env) as it:  # and so it is after a restart
        for name in ("a", "b"):
            assert (await ask(it.http, chat(name))).done
        assert await it.loaded("a")


async def test_what_was_declared_stays_and_the_measured_is_told_beside_it(
    tmp_path: Path, driver: Driver
) -> None:
    models = model("a", takes=6, more=", vram: 10GiB")
    async with pair(tmp_path, models, env=driver.env) as it:
        assert (await ask(it.http, chat("a"))).done
        known = await measured(it, "a")
        assert (known["memory_bytes"], known["memory_source"]) == (10 * GIB, "declared")
        assert known["measured_bytes"] == 6 * GIB


async def test_who_takes_more_than_was_declared_makes_way_before_another_starts(
    tmp_path: Path, driver: Driver
) -> None:
    models = model("a", takes=16, more=", vram: 6GiB") + model("b", takes=16, more=", vram: 16GiB")
    async with pair(tmp_path, models, env=driver.env) as it:
        assert (await ask(it.http, chat("a"))).done
        await measured(it, "a")
        assert (await ask(it.http, chat("b"))).done
        assert of(await it.status(), "a")["phase"] == "idle"


async def test_models_in_containers_start_one_by_one_on_a_gpu(
    tmp_path: Path, driver: Driver
) -> None:
    slow = ("--load-seconds", "0.3", "--journal", str(tmp_path / "journal"))
    more = ", vram: 4GiB, stop_command: ['true']"
    models = "".join(model(id, *slow, takes=4, more=more) for id in ("b", "c"))
    async with pair(tmp_path, model("a", takes=2) + models, env=driver.env) as it:
        assert (await ask(it.http, chat("a"))).done
        await measured(it, "a")
        both = [ask(it.http, chat(id)) for id in ("b", "c")]
        for told in await asyncio.gather(*both):
            assert told.done
    lines = map(json.loads, (tmp_path / "journal").read_text().splitlines())
    events = [line["event"] for line in lines if line["event"] in ("started", "ready")]
    assert events == ["started", "ready", "started", "ready"]


async def test_who_waits_for_memory_that_others_use_starts_when_they_are_gone(
    tmp_path: Path, driver: Driver
) -> None:
    driver.say(used=20)
    models = model("a", takes=16, more=", vram: 16GiB")
    async with pair(tmp_path, models, env=driver.env) as it:
        asking = asyncio.create_task(ask(it.http, chat("a")))

        async def waits() -> bool:
            """the model waits for the memory that others use"""
            return of(await it.status(), "a")["step"] == "waiting for VRAM"

        await until(waits)
        driver.say(used=2)
        told = await asking
        assert told.done
        assert "waiting for VRAM" in told.steps
