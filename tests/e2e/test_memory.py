"""The memory of a GPU, from the real NVML binding over a fake driver to what a client is told.

Rule: the driver's figures move with the engines' processes; a test changes only what others do.
"""

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.pair import Pair, ask, chat, pair
from tests.harness import ENGINE, until

GIB = 2**30
MIB_PER_GIB = 1024


@dataclass(frozen=True)
class Driver:
    """One GPU of 24 GiB, whose figures every process of a test sees."""

    library: Path
    folder: Path

    def say(self, *more: str, used: int = 0) -> None:
        """In one step, so that nobody reads half of it. `used` by others, in GiB."""
        (self.folder / "processes").mkdir(exist_ok=True)
        gpu = f"gpu {24 * MIB_PER_GIB} 0 {used * MIB_PER_GIB} 0 GPU-aaaa A"
        lines = (gpu, f"processes {self.folder}/processes", *more, "")
        draft = self.folder / "draft"
        draft.write_text("\n".join(lines))
        draft.rename(self.folder / "driver")

    @property
    def env(self) -> dict[str, str]:
        return {"LD_LIBRARY_PATH": str(self.library), "FAKE_NVML": str(self.folder / "driver")}


@pytest.fixture
def driver(tmp_path: Path, fake_nvml: Path) -> Driver:
    it = Driver(fake_nvml, tmp_path)
    it.say()
    return it


def model(id: str, *switches: str, takes: int, more: str = "") -> str:
    """One line of `models:`: an engine that takes so many GiB of the GPU."""
    vram = ("--vram", str(takes * MIB_PER_GIB))
    command = json.dumps([sys.executable, str(ENGINE), "--port", "{port}", *vram, *switches])
    return f"  {id}: {{engine: command, command: {command}{more}}}\n"


def of(status: dict[str, Any], id: str) -> dict[str, Any]:
    return dict(next(m for m in status["models"] if m["id"] == id))


async def measured(it: Pair, id: str) -> dict[str, Any]:
    async def is_measured() -> dict[str, Any] | None:
        """the sidecar knows what the engine takes"""
        now = of(await it.status(), id)
        return now if now["measured_bytes"] is not None else None

    return await until(is_measured)


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


async def test_a_switch_waits_for_memory_that_comes_back_late_and_says_so(
    tmp_path: Path, driver: Driver
) -> None:
    driver.say("lag 0.5")
    models = model("a", takes=16, more=", vram: 16GiB") + model("b", takes=16, more=", vram: 16GiB")
    async with pair(tmp_path, models, env=driver.env) as it:
        assert (await ask(it.http, chat("a"))).done
        await measured(it, "a")
        told = await ask(it.http, chat("b"))
        assert told.done
        assert told.steps.index("waiting for VRAM") < told.steps.index("starting new model")
        assert (await it.status())["problems"] == []


async def test_memory_that_never_comes_back_is_others_after_5_s_and_who_needs_it_is_told(
    tmp_path: Path, driver: Driver
) -> None:
    driver.say("lag 600")
    models = model("a", takes=16, more=", vram: 16GiB") + model("b", takes=16, more=", vram: 16GiB")
    async with pair(tmp_path, models, env=driver.env) as it:
        assert (await ask(it.http, chat("a"))).done
        await measured(it, "a")
        told = await ask(it.http, chat("b"))
        assert told.error is not None
        assert (told.error["code"], told.error["cause"]) == ("load_failed", "vram_oom")
        assert told.error["message"].endswith(
            "needs 16.0 GiB, GPU 0 has 8.0 GiB of 24.0 GiB: 16.0 GiB are used by others"
        )
        status = await it.status()
        assert status["problems"] == [
            "GPU 0: 16.0 GiB of a did not come back within 5 s: treated as others'"
        ]
        driver.say()
        assert (await ask(it.http, chat("b"))).done

        async def no_problem_is_left() -> bool:
            return (await it.status())["problems"] == []

        await until(no_problem_is_left)


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


async def test_a_load_that_dies_of_memory_is_tried_once_more_and_then_fails(
    tmp_path: Path, driver: Driver
) -> None:
    dies = ("--fail-with", "CUDA error: out of memory", "--journal", str(tmp_path / "journal"))
    models = model("a", *dies, takes=6, more=", vram: 6GiB")
    async with pair(tmp_path, models, env=driver.env) as it:
        told = await ask(it.http, chat("a"))
        assert told.error is not None
        assert (told.error["code"], told.error["cause"]) == ("load_failed", "vram_oom")
        assert told.phases.count("starting") == 2
        assert "waiting for VRAM" in told.steps
    lines = map(json.loads, (tmp_path / "journal").read_text().splitlines())
    assert [line["event"] for line in lines].count("started") == 2
