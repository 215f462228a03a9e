"""Which GPUs an engine gets, and a sidecar whose GPUs come, get lost and come back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.harness import until
from tests.http.boxes import Box, Json, box, fake

CARDS = "gpu 1024 0 0 0 GPU-aaaa A\ngpu 1024 0 0 0 GPU-bbbb B\n"
NOT_LOADED = "the NVIDIA driver is not loaded"


def set_driver(tmp: Path, text: str) -> None:
    """In one step, so that nobody reads half of it."""
    draft = tmp / "driver.draft"
    draft.write_text(text)
    draft.rename(tmp / "driver")


@asynccontextmanager
async def gpu_box(tmp: Path, library: Path, driver: str, **models: Json) -> AsyncIterator[Box]:
    set_driver(tmp, driver)
    env = {"LD_LIBRARY_PATH": str(library), "FAKE_NVML": str(tmp / "driver")}
    async with box(tmp, models, env) as it:
        yield it


def visible(it: Box, name: str) -> str:
    (*_, started) = it.journal(name, "started")
    return psutil.Process(started["pid"]).environ()["CUDA_VISIBLE_DEVICES"]


async def misfit(it: Box, name: str) -> str:
    """Why the box cannot hold the model, once it says so."""

    async def told() -> Any:
        error = (await it.of(name))["error"]
        return error and error["code"] == "does_not_fit" and error["message"]

    return str(await until(told))


async def fits(it: Box, name: str) -> None:
    async def told() -> bool:
        return (await it.of(name))["error"] is None

    await until(told)


def none_because(why: str) -> str:
    instead = "`gpus: none` would run it on the host"
    return f"it needs a GPU, this box has none ({why}; {instead})"


async def test_a_model_gets_the_gpus_that_it_names_in_its_order(
    tmp_path: Path, fake_nvml: Path
) -> None:
    named = fake(gpus=["GPU-bbbb", 0], vram="512MiB")
    async with gpu_box(tmp_path, fake_nvml, CARDS, named=named) as it:
        loaded = await it.load("named")
        assert loaded["gpus"] == [0, 1]
        assert visible(it, "named") == "GPU-bbbb,GPU-aaaa"
        reserved = [row["reserved"] for row in (await it.status())["memory"]]
        assert reserved == [256 * 2**20, 256 * 2**20, 0]


async def test_a_model_gets_as_many_gpus_as_it_asks_for(tmp_path: Path, fake_nvml: Path) -> None:
    async with gpu_box(tmp_path, fake_nvml, CARDS, two=fake(gpus=2, vram="1536MiB")) as it:
        await it.load("two")
        assert visible(it, "two") == "GPU-aaaa,GPU-bbbb"


async def test_gpus_that_are_not_there_are_a_problem_of_the_model_alone(
    tmp_path: Path, fake_nvml: Path
) -> None:
    models = {
        "three": fake(gpus=3),
        "absent": fake(gpus=["GPU-cccc", 7]),
        "wide": fake(gpus=2, vram="3GiB"),
        "one": fake(gpus=1),
    }
    async with gpu_box(tmp_path, fake_nvml, CARDS, **models) as it:
        assert await misfit(it, "three") == "three needs 3 GPUs, this box has 2"
        assert await misfit(it, "absent") == "absent needs GPU-cccc and GPU 7, which cannot be seen"
        assert await misfit(it, "wide") == (
            "wide needs 1.5 GiB on each of 2 GPUs, none of the 2 here has that much"
        )
        assert (await it.http.post("/models/three/load")).status_code == 409
        assert (await it.load("one"))["gpus"] == [0]


async def test_gpus_whose_driver_is_loaded_after_us_can_be_used(
    tmp_path: Path, fake_nvml: Path
) -> None:
    driver = "fail nvmlInitWithFlags 9"
    async with gpu_box(tmp_path, fake_nvml, driver, it=fake(gpus=["GPU-aaaa"])) as box:
        assert await misfit(box, "it") == f"it needs GPU-aaaa, which cannot be seen ({NOT_LOADED})"
        set_driver(tmp_path, CARDS)
        await fits(box, "it")
        assert (await box.load("it"))["gpus"] == [0]
        assert visible(box, "it") == "GPU-aaaa"


async def test_a_driver_that_fails_from_the_start_sends_no_model_to_the_processor(
    tmp_path: Path, fake_nvml: Path
) -> None:
    driver = "fail nvmlInitWithFlags 9"
    async with gpu_box(tmp_path, fake_nvml, driver, it=fake(gpus="auto")) as box:
        assert await misfit(box, "it") == none_because(NOT_LOADED)
        set_driver(tmp_path, CARDS)
        await fits(box, "it")
        assert (await box.load("it"))["gpus"] == [0]
        assert visible(box, "it") == "GPU-aaaa"


async def test_nothing_starts_on_a_lost_gpu_and_what_runs_there_is_left_alone(
    tmp_path: Path, fake_nvml: Path
) -> None:
    models = {"runs": fake(gpus="auto"), "waits": fake(gpus=[0])}
    async with gpu_box(tmp_path, fake_nvml, CARDS, **models) as it:
        assert (await it.load("runs"))["gpus"] == [0]
        set_driver(tmp_path, CARDS + "lost 0\n")
        lost = "GPU 0: lost: it does not answer on the bus any more"
        assert await misfit(it, "waits") == f"waits needs GPU 0, which cannot be seen ({lost})"
        assert lost in (await it.status())["problems"]
        assert (await it.of("runs"))["error"] is None
        assert (await it.ask("runs")).status_code == 200
        await it.unload("runs")
        assert (await it.load("runs"))["gpus"] == [1]
        set_driver(tmp_path, CARDS)
        await fits(it, "waits")
        assert (await it.load("waits"))["gpus"] == [0]


async def test_a_driver_that_fails_sends_no_model_to_the_processor(
    tmp_path: Path, fake_nvml: Path
) -> None:
    async with gpu_box(tmp_path, fake_nvml, CARDS, it=fake(gpus="auto")) as box:
        set_driver(tmp_path, CARDS + "fail nvmlDeviceGetCount_v2 999\n")
        said = await misfit(box, "it")
        assert said == none_because("NVML says: Unknown Error")
        set_driver(tmp_path, CARDS)
        await fits(box, "it")


async def test_a_driver_that_hangs_takes_no_gpu_away(tmp_path: Path, fake_nvml: Path) -> None:
    async with gpu_box(tmp_path, fake_nvml, CARDS, it=fake(gpus="auto")) as box:
        set_driver(tmp_path, CARDS + "hang nvmlDeviceGetCount_v2\n")

        async def told() -> bool:
            return "NVML has not answered for 2 s" in (await box.status())["problems"]

        await until(told)
        assert (await box.load("it"))["gpus"] == [0]
        assert visible(box, "it") == "GPU-aaaa"


async def test_a_box_without_a_driver_says_so_in_its_log(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").touch()  # hides the real one of a box that has one
    async with gpu_box(tmp_path, tmp_path, CARDS, it=fake(gpus="auto")) as box:
        assert "there is no libnvidia-ml.so.1" in box.server.program.log()
        assert (await box.status())["problems"] == []
        assert (await box.load("it"))["gpus"] == []
