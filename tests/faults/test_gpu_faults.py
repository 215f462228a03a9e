"""F20 to F26: memory of GPUs that does not come back or is taken by others, and drivers that fail.

The driver is a fake one, under the real binding and the real pair.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cards import Driver, has_no_problem, has_problem, measured, model, of
from tests.e2e.pair import Pair, Told, ask, chat, pair
from tests.harness import Frame, frames, until

TWO = ("GPU-aaaa", "GPU-bbbb")
ENDLESS = ("--tokens", "100000", "--tokens-per-second", "50")


@pytest.fixture
def driver(tmp_path: Path, fake_nvml: Path) -> Driver:
    it = Driver(fake_nvml, tmp_path)
    it.say()
    return it


def two_that_exclude_each_other(*switches: str) -> str:
    return "".join(model(id, *switches, takes=16, more=", vram: 16GiB") for id in ("a", "b"))


def noted(tmp_path: Path, event: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (tmp_path / "journal").read_text().splitlines())
    return [line for line in lines if line["event"] == event]


def failed(told: Told) -> tuple[str, str]:
    assert told.error is not None
    assert not told.done
    return told.error["code"], told.error["cause"]


@asynccontextmanager
async def streaming(it: Pair, id: str) -> AsyncIterator[AsyncIterator[Frame]]:
    """An endless answer that has begun."""
    body = chat(id)
    async with it.http.stream("POST", "/v1/chat/completions", json=body) as response:
        answer = frames(response)
        await goes_on(answer)
        yield answer


async def goes_on(answer: AsyncIterator[Frame]) -> None:
    """Ten more tokens: it is neither held up nor over."""
    tokens = 0
    while tokens < 10:
        frame = await anext(answer)
        tokens += "tok" in frame.data


# F20: memory that comes back late, or never.


async def test_f20_memory_that_does_not_come_back_is_waited_for_and_after_5_s_others(
    tmp_path: Path, driver: Driver
) -> None:
    """Who needs it is told."""
    driver.say("lag 600")
    journal = ("--journal", str(tmp_path / "journal"))
    async with pair(tmp_path, two_that_exclude_each_other(*journal), env=driver.env) as it:
        assert (await ask(it.http, chat("a"))).done
        await measured(it, "a")
        told = await ask(it.http, chat("b"))
        assert failed(told) == ("load_failed", "vram_oom")
        assert told.error is not None
        assert told.error["message"].endswith(
            "needs 16.0 GiB, GPU 0 has 8.0 GiB of 24.0 GiB: 16.0 GiB are used by others"
        )
        assert (await it.status())["problems"] == [
            "GPU 0: 16.0 GiB of a did not come back within 5 s: treated as others'"
        ]
        driver.say()
        assert (await ask(it.http, chat("b"))).done
        await has_no_problem(it)
        await measured(it, "b")
        driver.say("lag 1")
        told = await ask(it.http, chat("a"))
        assert told.done
        assert told.steps.index("waiting for VRAM") < told.steps.index("starting new model")
        assert (await it.status())["problems"] == []
        gone, started = noted(tmp_path, "exit")[-1], noted(tmp_path, "started")[-1]
        assert started["at"] - gone["at"] >= 1, "it was over its budget"


# F21: no library.


async def test_f21_without_a_library_there_are_no_gpus_and_that_is_said(tmp_path: Path) -> None:
    """Never a GPU of 0 bytes. A model that needs one is refused, one that does not is served."""
    (tmp_path / "libnvidia-ml.so.1").touch()  # hides the real one of a box that has one
    env = {"LD_LIBRARY_PATH": str(tmp_path)}
    models = model("needs-one", takes=0, more=", gpus: 1") + model("any", takes=0, more=HOST)
    async with pair(tmp_path, models, env=env) as it:
        assert "there is no libnvidia-ml.so.1" in it.sidecar.program.log()
        assert [row["kind"] for row in (await it.status())["memory"]] == ["host"]
        answer = await it.http.post("/v1/chat/completions", json=chat("needs-one", stream=False))
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "does_not_fit")
        assert "GPU" in answer.json()["error"]["message"]
        assert (await ask(it.http, chat("any"))).done


HOST = ", gpus: none, vram: 10MiB"


# F22: the driver was updated, and does not match its library any more.


async def test_f22_a_driver_mismatch_leaves_streams_alone_stops_new_loads_and_passes(
    tmp_path: Path, driver: Driver
) -> None:
    models = model("runs", *ENDLESS, takes=6, more=", vram: 6GiB")
    models += model("new", takes=6, more=", vram: 6GiB")
    async with pair(tmp_path, models, env=driver.env) as it, streaming(it, "runs") as answer:
        driver.say("fail nvmlInitWithFlags 18", "fail nvmlDeviceGetCount_v2 18")
        await has_problem(it, "differ in version")
        await goes_on(answer)
        refused = await it.http.post("/v1/chat/completions", json=chat("new", stream=False))
        assert refused.json()["error"]["code"] == "does_not_fit"
        assert "differ in version" in refused.json()["error"]["message"]
        assert await it.loaded("runs")
        driver.say()
        await has_no_problem(it)
        assert (await ask(it.http, chat("new"))).done
        await goes_on(answer)


# F23: a card falls off the bus, and its engine with it.


async def test_f23_a_lost_gpu_ends_its_engines_stream_in_an_error_and_is_not_used_again(
    tmp_path: Path, driver: Driver
) -> None:
    driver.say(gpus=TWO)
    journal = ("--journal", str(tmp_path / "journal"))
    models = model("here", *journal, *ENDLESS, takes=16, more=", vram: 16GiB, gpus: [0]")
    models += model("moves", *journal, "--crash-at", "token:100", *ENDLESS, takes=6, more=VRAM)
    async with pair(tmp_path, models, env=driver.env) as it:
        async with streaming(it, "moves") as answer:
            assert of(await it.status(), "moves")["gpus"] == [0]
            driver.say("lost 0", gpus=TWO)
            await has_problem(it, "GPU 0: lost")
            *_, last = [frame async for frame in answer]
            assert json.loads(last.data)["error"]["code"] == "engine_died"
        refused = await it.http.post("/v1/chat/completions", json=chat("here", stream=False))
        assert refused.json()["error"]["code"] == "does_not_fit"
        assert "GPU 0" in refused.json()["error"]["message"]
        async with streaming(it, "moves"):
            assert of(await it.status(), "moves")["gpus"] == [1]
        driver.say(gpus=TWO)
        await has_no_problem(it)
        async with streaming(it, "here"):
            assert of(await it.status(), "here")["gpus"] == [0]


VRAM = ", vram: 6GiB"


# F24: a call that never returns.


async def test_f24_a_driver_that_hangs_holds_up_no_stream_and_no_other_request(
    tmp_path: Path, driver: Driver
) -> None:
    models = model("runs", *ENDLESS, takes=6, more=VRAM) + model("new", takes=6, more=VRAM)
    async with pair(tmp_path, models, env=driver.env) as it, streaming(it, "runs") as answer:
        driver.say("hang nvmlDeviceGetMemoryInfo_v2")
        await has_problem(it, "NVML has not answered for 2 s")
        await goes_on(answer)
        assert (await ask(it.http, chat("new"))).done
        driver.say()
        await has_no_problem(it)
        await goes_on(answer)


# F25: others take the memory between our look and the load.


@pytest.mark.parametrize("stays", [True, False])
async def test_f25_a_load_that_others_take_the_memory_from_is_tried_again_when_there_is_room(
    tmp_path: Path, driver: Driver, stays: bool
) -> None:
    slow = ("--load-seconds", "1", "--journal", str(tmp_path / "journal"))
    models = model("a", *slow, takes=16, more=", vram: 16GiB")
    async with pair(tmp_path, models, env=driver.env) as it:
        asking = asyncio.ensure_future(ask(it.http, chat("a")))
        await until(lambda: (tmp_path / "journal").exists() and noted(tmp_path, "started"))
        driver.say(used=10)

        async def waits() -> bool:
            """it has died of memory, and waits for some"""
            return of(await it.status(), "a")["step"] == "waiting for VRAM"

        await until(waits)
        if not stays:
            driver.say()
        told = await asking
        if stays:
            assert failed(told) == ("load_failed", "vram_oom")
            assert told.error is not None
            assert "10.0 GiB are used by others" in told.error["message"]
        assert told.done is not stays
    assert len(noted(tmp_path, "started")) == (1 if stays else 2)


async def test_f25_a_load_that_dies_of_memory_is_tried_once_more_and_then_fails(
    tmp_path: Path, driver: Driver
) -> None:
    dies = ("--fail-with", "CUDA error: out of memory", "--journal", str(tmp_path / "journal"))
    async with pair(tmp_path, model("a", *dies, takes=6, more=VRAM), env=driver.env) as it:
        told = await ask(it.http, chat("a"))
        assert failed(told) == ("load_failed", "vram_oom")
        assert told.phases.count("starting") == 2
        assert "waiting for VRAM" in told.steps
    assert len(noted(tmp_path, "started")) == 2


# F26: as many GPUs as there are.


async def test_f26_the_status_lists_the_gpus_that_the_driver_tells_also_when_some_go(
    tmp_path: Path, driver: Driver
) -> None:
    sixteen = [f"GPU-{n:04}" for n in range(16)]
    driver.say(gpus=sixteen)
    models = model("runs", *ENDLESS, takes=6, more=", vram: 6GiB, gpus: [2]")
    models += model("gone", takes=6, more=", vram: 6GiB, gpus: [15]")
    async with pair(tmp_path, models, env=driver.env) as it, streaming(it, "runs") as answer:
        assert await listed(it) == list(enumerate(sixteen))
        left = [uuid for n, uuid in enumerate(sixteen) if n not in (1, 15)]
        driver.say(gpus=left)  # unplugged, and NVML counts anew

        async def noticed() -> bool:
            """two are gone, and the others have kept their numbers"""
            return await listed(it) == [(int(uuid[4:]), uuid) for uuid in left]

        await until(noticed)
        refused = await it.http.post("/v1/chat/completions", json=chat("gone", stream=False))
        assert "needs GPU 15, which cannot be seen" in refused.json()["error"]["message"]
        await goes_on(answer)
        driver.say(gpus=())
        await has_problem(it, "the NVIDIA driver finds no GPU")
        assert await listed(it) == []
        await goes_on(answer)
        driver.say(gpus=sixteen)
        await has_no_problem(it)
        assert await listed(it) == list(enumerate(sixteen))
        assert (await ask(it.http, chat("gone"))).done


async def listed(it: Pair) -> list[tuple[int, str]]:
    rows = (await it.status())["memory"]
    return [(row["index"], row["uuid"]) for row in rows if row["kind"] == "gpu"]
