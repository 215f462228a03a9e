"""F41: loops that stand still, and deciders that are stuck or fail. Health is red for as long as
nothing is decided, nobody is cut off, and the log says where it was.
"""

import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.heart import STANDS
from shared.status import Phase
from tests.fakes.box import FakeBox
from tests.faults.streams import engine
from tests.harness import ROOT, Program, children_of, client, frames, free_port, is_guard, until
from tests.http.yards import FACTS, answers

FAULTY = ROOT / "tests" / "faults" / "faulty.py"
PLANNER = "sidecar.inventory:Inventory.plan"
HEARD = "router.line:Line.heard"


@dataclass(frozen=True)
class Faulty:
    """A program that has a fault while `file` is there."""

    http: httpx.AsyncClient
    program: Program
    file: Path

    async def health(self) -> tuple[int, str]:
        """0: no answer, which is what whoever asks with a limit of time takes for illness."""
        with suppress(httpx.TimeoutException):
            answer = await self.http.get("/healthz", timeout=0.5)
            return answer.status_code, answer.text
        return 0, ""

    async def is_ill(self, *statuses: int) -> str:
        async def ill() -> str | None:
            status, text = await self.health()
            return text or "-" if status in statuses else None

        return await until(ill, 20)

    async def is_well(self) -> None:
        async def well() -> bool:
            return await self.health() == (200, "ok\n")

        await until(well, 20)

    def logged(self, event: str) -> list[dict[str, Any]]:
        said = [line for line in self.program.log().splitlines() if line.startswith("{")]
        return [line for line in map(json.loads, said) if line["event"] == event]


@asynccontextmanager
async def faulty(tmp: Path, program: str, where: str, how: str, text: str) -> AsyncIterator[Faulty]:
    port, file, config = free_port(), tmp / "fault", tmp / f"{program}.yaml"
    config.write_text(f"listen: 127.0.0.1:{port}\n{text}")
    argv = [sys.executable, str(FAULTY), where, how, str(file), program, "--config", str(config)]
    async with (
        Program(argv, tmp, env={"PYTHONPATH": str(ROOT)}) as running,
        client(f"http://127.0.0.1:{port}") as http,
    ):

        async def up() -> bool:
            """it is up"""
            assert running.code is None, running.log()
            with suppress(httpx.TransportError):
                return (await http.get("/healthz")).status_code == 200
            return False

        await until(up)
        try:
            yield Faulty(http, running, file)
        finally:
            file.unlink(missing_ok=True)  # what is stuck hears no signal


async def probed(it: Faulty, tmp: Path) -> str:
    argv = [str(Path(sys.executable).parent / "swapyard"), "probe", "--url", str(it.http.base_url)]
    async with Program(argv, tmp) as probe:
        assert await probe.wait(30) == 2
        return probe.log()


def sidecar(tmp: Path, how: str, where: str = PLANNER, more: str = "") -> Any:
    models = engine(tmp, "any", "--tokens", "1000000", "--tokens-per-second", "50", more=more)
    return faulty(tmp, "sidecar", where, how, f"memory_limit: 1GiB\nmodels:\n{models}")


async def model(it: Faulty) -> dict[str, Any]:
    (found,) = (await it.http.get("/models/status")).json()["models"]
    return dict(found)


async def in_phase(it: Faulty, phase: str) -> None:
    async def there() -> bool:
        """the model is in that phase"""
        return bool((await model(it))["phase"] == phase)

    await until(there)


async def load(it: Faulty) -> None:
    assert (await it.http.post("/models/any/load")).status_code == 202
    await in_phase(it, "ready")


async def test_f41_a_planner_that_fails_turns_health_red_until_it_decides_again(
    tmp_path: Path,
) -> None:
    async with sidecar(tmp_path, "raise") as it:
        it.file.touch()
        said = await it.is_ill(503)
        assert "the last decision has failed, InjectedError in wrapper, faulty.py:" in said
        assert said.count("\n") == 1
        assert (await it.http.get("/readyz")).text == said
        assert "is not well: " in await probed(it, tmp_path)
        it.file.unlink()
        await it.is_well()
        (first, *_) = it.logged("a decision has failed")
        assert "InjectedError" in first["exception"]
        await load(it)


async def test_f41_an_end_that_could_not_be_decided_is_told_again(tmp_path: Path) -> None:
    async with sidecar(tmp_path, "raise", "sidecar.lives:Lives.ended") as it:
        await load(it)
        it.file.touch()
        (child,) = (c for c in children_of(it.program.pid) if not is_guard(c))
        child.kill()
        said = await it.is_ill(503)
        assert said.startswith("the engine of any: the last decision has failed, InjectedError")
        assert (await model(it))["phase"] == "ready"
        it.file.unlink()
        await in_phase(it, "idle")
        assert (await model(it))["error"]["code"] == "engine_died"
        await it.is_well()


async def test_f41_what_keeps_an_engine_from_starting_is_the_end_of_its_load_alone(
    tmp_path: Path,
) -> None:
    async with sidecar(tmp_path, "raise", "sidecar.launcher:Launcher.launch") as it:
        it.file.touch()
        assert (await it.http.post("/models/any/load")).status_code == 202

        async def failed() -> Any:
            """its load has failed"""
            return (await model(it))["error"]

        assert (await until(failed))[
            "message"
        ] == "InjectedError of the sidecar when it was started"
        assert (await model(it))["phase"] == "idle"
        await it.is_well()
        assert it.logged("a decision has failed")
        it.file.unlink()
        await load(it)


async def test_f41_a_stop_that_fails_is_told_and_made_up_for(tmp_path: Path) -> None:
    where = "sidecar.runner:Runner.stop"
    async with sidecar(tmp_path, "raise", where, more=", stop_timeout: 1s") as it:
        await load(it)
        it.file.touch()
        assert (await it.http.post("/models/any/unload")).status_code == 202
        await it.is_ill(503)
        assert (await model(it))["phase"] == "stopping"
        it.file.unlink()
        await in_phase(it, "idle")
        await it.is_well()


async def test_f41_a_stuck_planner_turns_health_red_is_logged_with_its_stack_and_cuts_nobody_off(
    tmp_path: Path,
) -> None:
    async with sidecar(tmp_path, "block") as it:
        await load(it)
        body = {"model": "any", "stream": True, "messages": []}
        asking = it.http.build_request("POST", "/engines/any/v1/chat/completions", json=body)
        stream = await it.http.send(asking, stream=True)
        events = await it.http.send(it.http.build_request("GET", "/models/events"), stream=True)
        heard, told = frames(stream), frames(events)
        await anext(heard)
        it.file.touch()
        began = time.monotonic()
        await it.is_ill(0)
        await until(lambda: it.logged("the event loop stands still"))
        it.file.unlink()
        stood = time.monotonic() - began
        await anext(told)
        await anext(heard)
        await it.is_well()
        (before,) = it.logged("the event loop stands still")
        assert any("faulty.py:" in place and place.endswith(" wrapper") for place in before["at"])
        (after,) = it.logged("the event loop turns again")
        assert STANDS < after["stood_s"] < stood + 1
        said = (await it.http.get("/metrics")).text
        (lag,) = [line for line in said.splitlines() if line.startswith("swapyard_loop_lag_s")]
        assert STANDS - 1 < float(lag.split()[1]) < stood + 1
        assert (await it.http.get("/models/status")).json()["models"][0]["in_flight"] == 1
        await stream.aclose()
        await events.aclose()


@pytest.mark.parametrize(("how", "status"), [("raise", 503), ("block", 0)])
async def test_f41_a_routers_line_that_fails_or_is_stuck_turns_its_health_red(
    tmp_path: Path, how: str, status: int
) -> None:
    async with FakeBox("box1", FACTS, answers) as box:
        text = f"sidecars: [{{url: '{box.url}'}}]"
        async with faulty(tmp_path, "router", HEARD, how, text) as it:

            async def ready() -> bool:
                return (await it.http.get("/readyz")).status_code == 200

            await until(ready)
            it.file.touch()
            box.say("warm", phase=Phase.READY)
            said = await it.is_ill(status)
            assert status == 0 or "InjectedError" in said
            it.file.unlink()
            await it.is_well()
            await until(ready)
            answer = await it.http.post("/v1/chat/completions", json={"model": "warm"})
            assert answer.status_code == 200
            assert len(it.logged("a decision has failed")) == (how == "raise")
