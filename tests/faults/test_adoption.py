"""F28, F32: a sidecar that is killed, and the one after it, and two at a time."""

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.e2e.pair import embedded, make_model
from tests.harness import (
    Program,
    client,
    engines_of,
    frames,
    free_port,
    router,
    sidecar,
    until,
)
from tests.http.boxes import CHAT, Box, Json, box, config, echo, fake, reporting

SLOW_LOAD = ("--load-seconds", "60")
ENDLESS = ("--tokens", "100000", "--tokens-per-second", "50")


async def killed(it: Box) -> None:
    it.server.program.kill()
    await it.server.program.wait()


def pids(it: Box, model: str) -> list[int]:
    """Of all its engines that were ever started."""
    return [entry["pid"] for entry in it.journal(model, "started")]


async def gone(pid: int) -> None:
    def ended() -> bool:
        """It runs no more; its new parent may take a moment to reap it."""
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    await until(ended)


# Killed, and back.


READY = ("ready", "with-a-command", "by-a-line")
CHANGED = {"other-arguments": fake("--tokens", "9"), "another-name": fake(served_name="other")}
DROPPED = "no-more-in-the-config"


def of_the_first(folder: Path) -> dict[str, Json]:
    return {
        "ready": fake(),
        "with-a-command": fake(stop_command=["true"]),
        "by-a-line": reporting(folder, "by-a-line"),
        "loading": fake(*SLOW_LOAD),
        "told-to-go": fake("--deaf", stop_timeout="1s"),
        "frozen": fake("--deaf", stop_timeout="100ms"),
        **dict.fromkeys([*CHANGED, DROPPED], fake()),
    }


@dataclass(frozen=True)
class Second:
    """The next sidecar, over one engine of each kind that the first has left."""

    box: Box
    first: Json  # what it said of each model in its first Status

    async def has_ended(self, model: str) -> None:
        await gone(*pids(self.box, model))
        if model != DROPPED:
            await self.box.until(model, "idle")


@pytest.fixture(scope="module")
async def second(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Second]:
    folder = tmp_path_factory.mktemp("killed")
    models = of_the_first(folder)
    async with box(folder, models) as it:
        for model in models:
            assert (await it.http.post(f"/models/{model}/load")).status_code == 202
        for model in models.keys() - {"loading"}:
            await it.until(model, "ready")
        await until(lambda: pids(it, "loading"))
        await it.http.post("/models/told-to-go/unload")
        await it.until("told-to-go", "stopping")
        await killed(it)
    os.kill(*pids(it, "frozen"), signal.SIGSTOP)
    del models[DROPPED]
    async with box(folder, models | CHANGED) as it:
        yield Second(it, {model["id"]: model for model in (await it.status())["models"]})


@pytest.mark.parametrize("model", READY)
async def test_f28_a_ready_engine_serves_on_under_the_next_sidecar(
    second: Second, model: str
) -> None:
    it, first = second.box, second.first[model]
    assert (first["phase"], first["in_flight"]) == ("ready", 0)
    assert (await it.ask(model)).status_code == 200
    assert len(pids(it, model)) == 1
    assert "ready" in (await it.http.get(f"/models/{model}/logs")).text
    await it.unload(model)
    await gone(*pids(it, model))
    told_by_a_line = model == "by-a-line"
    assert bool(it.journal(model, "line")) is told_by_a_line
    assert bool(it.journal(model, "sigterm")) is not told_by_a_line
    assert not list((it.folder / "state" / "fifos").iterdir()) or not told_by_a_line


async def test_f28_an_engine_that_was_not_ready_is_ended(second: Second) -> None:
    assert second.first["loading"]["phase"] in ("stopping", "idle")
    await second.has_ended("loading")


async def test_f28_an_engine_that_was_told_to_go_goes(second: Second) -> None:
    assert second.first["told-to-go"]["phase"] == "stopping"
    await second.has_ended("told-to-go")


async def test_f28_an_engine_that_does_not_answer_any_more_is_ended(second: Second) -> None:
    await second.has_ended("frozen")


@pytest.mark.parametrize("model", [*CHANGED, DROPPED])
async def test_f28_an_engine_of_another_config_is_ended(second: Second, model: str) -> None:
    assert second.first.get(model, {"phase": "idle"})["phase"] in ("stopping", "idle")
    await second.has_ended(model)


async def test_f28_a_real_engine_is_not_loaded_again(tmp_path: Path) -> None:
    model = embedded("small", make_model(tmp_path, "demo-small"))
    port, text = free_port(), f"memory_limit: 1GiB\nmodels:\n{model}"
    body: Json = {"model": "small", "max_tokens": 3, "messages": [{"role": "user", "content": "x"}]}
    async with sidecar(tmp_path, text, port=port) as server, client(server.url) as http:
        it = Box(server, http, tmp_path)
        await it.load("small")
        (engine,) = engines_of(server.program.pid)
        await killed(it)
    async with sidecar(tmp_path, text, port=port) as server, client(server.url) as http:
        it = Box(server, http, tmp_path)
        assert (await it.of("small"))["phase"] == "ready"
        answer = await it.http.post("/engines/small/v1/chat/completions", json=body)
        assert answer.json()["choices"]
        assert engine.is_running()
        await it.unload("small")
        await gone(engine.pid)


async def test_f28_an_engine_that_nobody_wrote_down_is_ended(tmp_path: Path) -> None:
    models = {"a": fake(), "b": fake()}
    async with box(tmp_path, models) as it:
        await it.load("a")
        await it.load("b")
        await killed(it)
    (tmp_path / "state" / "launches.json").write_text("{")
    async with box(tmp_path, models) as it:
        for model in models:
            await gone(*pids(it, model))
            assert (await it.of(model))["phase"] == "idle"
        assert "cannot be read" in it.server.program.log()


async def all_dead(tmp_path: Path) -> Callable[[int], None]:
    """A sidecar and its engine. What is written down of it can be given another number."""
    async with box(tmp_path, {"a": fake()}) as it:
        await it.load("a")
        await killed(it)
    (pid,) = pids(it, "a")
    os.kill(pid, signal.SIGKILL)
    await gone(pid)
    page = tmp_path / "state" / "launches.json"
    written = page.read_text()

    def renumber(number: int) -> None:
        page.write_text(written.replace(f'"pid": {pid}', f'"pid": {number}'))

    return renumber


async def test_f28_another_process_with_its_number_is_let_alone(tmp_path: Path) -> None:
    renumber = await all_dead(tmp_path)
    async with Program(["sleep", "60"], tmp_path) as stranger:
        renumber(stranger.pid)
        async with box(tmp_path, {"a": fake()}) as it:
            assert (await it.of("a"))["phase"] == "idle"
            assert stranger.code is None


async def test_f28_memory_of_what_was_taken_over_is_accounted(tmp_path: Path) -> None:
    models = {"a": fake(vram="40MiB"), "b": fake(vram="40MiB")}
    async with box(tmp_path, models) as it:
        await it.load("a")
        await killed(it)
    async with box(tmp_path, models) as it:
        host = next(row for row in (await it.status())["memory"] if row["kind"] == "host")
        assert host["reserved"] == 40 * 2**20
        await it.load("b")
        assert (await it.of("a"))["phase"] == "idle"
        await gone(*pids(it, "a"))
        await it.unload("b")


async def test_f28_who_waits_at_the_router_is_served_by_the_engine_that_was_taken_over(
    tmp_path: Path,
) -> None:
    models, port = {"a": fake(*ENDLESS), "b": fake()}, free_port()
    text = config(tmp_path, models)
    async with sidecar(tmp_path, text, port=port) as server, client(server.url) as http:
        it = Box(server, http, tmp_path)
        await it.load("b")
        front = router(tmp_path, f"sidecars: [{{url: '{server.url}'}}]")
        async with front as door, client(door.url, timeout=30) as clients:

            async def heard() -> bool:
                return (await clients.get("/readyz")).status_code == 200

            await until(heard)
            await it.load("a")
            body = {"model": "a", "stream": True, "messages": []}
            async with clients.stream("POST", f"/{CHAT}", json=body) as answer:
                said = frames(answer)
                while "tok" not in (await anext(said)).data:
                    pass  # until its engine has begun, nothing of it can die
                await killed(it)
                last = [frame.data async for frame in said][-1]
            assert '"engine_died"' in last
            async with sidecar(tmp_path, text, port=port):
                body |= {"model": "b", "stream": False}
                assert (await clients.post(f"/{CHAT}", json=body)).status_code == 200
                assert len(pids(it, "b")) == 1


# An upgrade without a reload.


async def test_f28_engines_are_handed_over_to_the_next_sidecar(tmp_path: Path) -> None:
    models = {"a": fake("--tokens", "20", "--tokens-per-second", "40"), "b": fake()}
    text, port = config(tmp_path, models), free_port()
    async with (
        sidecar(tmp_path, text, "--keep-engines", port=port) as server,
        client(server.url) as http,
    ):
        it = Box(server, http, tmp_path)
        await it.load("a")
        await it.load("b")
        async with it.http.stream("POST", f"/engines/a/{CHAT}", json={"stream": True}) as said:
            heard = frames(said)
            await anext(heard)
            server.program.terminate()
            assert [frame.data async for frame in heard][-1] == "[DONE]"
        assert await server.program.wait() == 0
    async with box(tmp_path, models) as it:
        for model in models:
            assert (await it.of(model))["phase"] == "ready"
            assert (await it.ask(model)).status_code == 200
            assert len(pids(it, model)) == 1


async def test_f28_a_hand_over_does_not_wait_for_ever(tmp_path: Path) -> None:
    models = {"a": fake(*ENDLESS)}
    text = config(tmp_path, models, shutdown_timeout="200ms")
    async with (
        sidecar(tmp_path, text, "--keep-engines") as server,
        client(server.url) as http,
    ):
        it = Box(server, http, tmp_path)
        await it.load("a")
        async with it.http.stream("POST", f"/engines/a/{CHAT}", json={"stream": True}) as said:
            heard = frames(said)
            await anext(heard)
            server.program.terminate()
            assert await server.program.wait() == 0
    async with box(tmp_path, models) as it:
        assert (await it.of("a"))["phase"] == "ready"
        await until(lambda: it.journal("a", "gone"))


# Two of them.


async def test_f32_a_second_sidecar_on_the_same_folder_is_refused_with_the_holders_pid(
    tmp_path: Path,
) -> None:
    models = {"a": echo()}
    async with box(tmp_path, models) as it:
        await it.load("a")
        path = tmp_path / "another.yaml"
        path.write_text(f"listen: 127.0.0.1:{free_port()}\n{config(tmp_path, models)}")
        argv = [sys.executable, "-m", "sidecar", "--config", str(path)]
        async with Program(argv, tmp_path) as second:
            assert await second.wait() == 2
        assert f"pid {it.server.program.pid}" in second.log()
        assert "Traceback" not in second.log()
        assert (await it.ask("a")).status_code == 200
