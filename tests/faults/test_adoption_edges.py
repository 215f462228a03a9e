"""F22, F28: a sidecar that comes back after a kill, while something else has changed: a number, a
driver, a need, children, the config.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.cards import GIB, Driver
from tests.e2e.cards import model as on_gpu
from tests.faults.test_adoption import all_dead, gone, killed, pids
from tests.harness import client, sidecar, until
from tests.http.boxes import Box, box, fake


@pytest.fixture
def driver(tmp_path: Path, fake_nvml: Path) -> Driver:
    it = Driver(fake_nvml, tmp_path)
    it.say()
    return it


@contextmanager
def a_thread() -> Iterator[int]:
    """Its number, which is no process's."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    assert thread.native_id is not None
    yield thread.native_id
    over.set()
    thread.join()


async def test_f28_a_number_that_is_a_threads_by_now_is_nobodys(tmp_path: Path) -> None:
    renumber = await all_dead(tmp_path)
    with a_thread() as number:
        renumber(number)
        async with box(tmp_path, {"a": fake()}) as it:
            assert (await it.of("a"))["phase"] == "idle"


async def test_f28_children_of_an_engine_that_died_meanwhile_are_ended(tmp_path: Path) -> None:
    models = {"a": fake("--fork", "1", "--setsid-child", "--deaf")}
    async with box(tmp_path, models) as it:
        await it.load("a")
        await killed(it)
    (main,) = pids(it, "a")
    children = [entry["pid"] for entry in it.journal("a", "child")]
    assert children
    os.kill(main, signal.SIGKILL)
    async with box(tmp_path, models) as it:
        await it.until("a", "idle")
        for child in children:
            await gone(child)


async def test_f28_an_engine_elsewhere_is_stopped_by_its_command_though_its_model_is_gone(
    tmp_path: Path,
) -> None:
    said = tmp_path / "said"
    async with box(tmp_path, {"a": fake(stop_command=["touch", str(said)])}) as it:
        await it.load("a")
        await killed(it)
    async with box(tmp_path, {"b": fake()}) as it:
        await gone(*pids(it, "a"))
        assert said.exists()


async def test_f28_what_an_engine_really_takes_is_what_the_next_sidecar_books(
    tmp_path: Path, driver: Driver
) -> None:
    """Two that were thought to exclude each other, and were seen not to."""
    weights = tmp_path / "weights"
    with weights.open("wb") as file:
        file.truncate(16 * GIB)
    models = "".join(on_gpu(id, takes=2, more=f", path: {weights}") for id in ("a", "b"))
    text = f"box: box1\nmemory_limit: 1GiB\nmodels:\n{models}"
    async with sidecar(tmp_path, text, env=driver.env) as server, client(server.url) as http:
        it = Box(server, http, tmp_path)
        await it.load("a")
        await until(lambda: measured(it, "a"))
        await it.load("b")
        assert (await it.of("a"))["phase"] == "ready"
        await killed(it)
    async with sidecar(tmp_path, text, env=driver.env) as server, client(server.url) as http:
        it = Box(server, http, tmp_path)
        assert {m["phase"] for m in (await it.status())["models"]} == {"ready"}
        for model in ("a", "b"):
            await it.unload(model)


async def measured(it: Box, model: str) -> bool:
    return bool((await it.of(model))["measured_bytes"])


async def test_f22_an_engine_on_a_gpu_that_no_driver_shows_any_more_serves_on(
    tmp_path: Path, driver: Driver
) -> None:
    """As after an update of the driver, which is not seen before the machine's next boot."""
    text = f"box: box1\nmemory_limit: 1GiB\nmodels:\n{on_gpu('a', takes=2)}"
    async with sidecar(tmp_path, text, env=driver.env) as server, client(server.url) as http:
        it = Box(server, http, tmp_path)
        await it.load("a")
        await killed(it)
    driver.say("fail nvmlInitWithFlags 18", "fail nvmlDeviceGetCount_v2 18")
    async with sidecar(tmp_path, text, env=driver.env) as server, client(server.url) as http:
        it = Box(server, http, tmp_path)
        assert (await it.of("a"))["phase"] == "ready"
        assert (await it.ask("a")).status_code == 200
        await it.unload("a")
