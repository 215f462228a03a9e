"""F09: a process that does not end whatever it is sent, as one whose GPU hangs."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.e2e.pair import Pair, pair
from tests.harness import ROOT, Program, client, until
from tests.http.boxes import Box, Json, box, fake

CHAT = "/v1/chat/completions"
CARDS = "gpu 1024 0 0 0 GPU-aaaa A\ngpu 1024 0 0 0 GPU-bbbb B\n"
SOON: Json = {"stop_timeout": 0.2, "vram": "700MiB"}
MODELS = {
    "held": fake("--any-tracer", gpus=[0], **SOON),
    "beside": fake(gpus=[0], **{**SOON, "vram": "100MiB"}),
    "elsewhere": fake(gpus="auto", **SOON),
}


@asynccontextmanager
async def holding(tmp: Path, pid: int) -> AsyncIterator[None]:
    """Nobody can end that process for as long as the block lasts."""
    tracer = Program([sys.executable, str(ROOT / "tests" / "fakes" / "tracer.py"), str(pid)], tmp)
    async with tracer:
        await until(lambda: "held" in tracer.log() or tracer.code)
        assert tracer.code is None, tracer.log()
        yield


@asynccontextmanager
async def gpu_pair(tmp: Path, library: Path) -> AsyncIterator[tuple[Pair, Box]]:
    (tmp / "driver").write_text(CARDS)
    env = {"LD_LIBRARY_PATH": str(library), "FAKE_NVML": str(tmp / "driver")}
    lines = "".join(f"  {name}: {json.dumps(model)}\n" for name, model in MODELS.items())
    models = lines.replace("{model}.journal", f"{tmp}/{{model}}.journal")
    async with pair(tmp, models, env=env) as both, client(both.sidecar.url) as http:
        yield both, Box(both.sidecar, http, tmp)


async def asked(both: Pair, model: str) -> httpx.Response:
    return await both.http.post(CHAT, json={"model": model, "messages": []})


async def unkillable(it: Box, name: str) -> Json:
    """Its part of the Status, once that says so."""

    async def told() -> Json | None:
        now = await it.of(name)
        return now if now["error"] and now["error"]["cause"] == "unkillable" else None

    return await until(told)


async def is_waiting(both: Pair) -> bool:
    return [row["waiting"] for row in (await both.http.get("/api/fleet")).json()["line"]] == [1]


def cause(answer: httpx.Response) -> tuple[int, Any, Any]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["cause"]


async def test_f09_an_engine_that_cannot_be_ended_is_told_and_fenced_until_it_ends(
    tmp_path: Path, fake_nvml: Path
) -> None:
    async with gpu_pair(tmp_path, fake_nvml) as (both, it):
        assert (await asked(both, "held")).status_code == 200
        [started] = it.journal("held", "started")
        async with holding(tmp_path, started["pid"]):
            assert (await it.http.post("/models/held/unload")).status_code == 202
            await it.until("held", "stopping")
            waits = asyncio.ensure_future(asked(both, "held"))
            await until(lambda: is_waiting(both))
            assert not waits.done()
            assert (await unkillable(it, "held"))["phase"] == "stopping"
            assert cause(await waits) == (503, "load_failed", "unkillable")
            [problem] = (await it.status())["problems"]
            assert f"pid {started['pid']}" in problem
            assert "GPU 0" in problem
            for model in ("held", "beside", "held"):
                assert cause(await asked(both, model)) == (503, "load_failed", "unkillable")
            assert (await asked(both, "elsewhere")).status_code == 200
            assert (await it.of("elsewhere"))["gpus"] == [1]
            assert psutil.pid_exists(started["pid"])
        await it.until("held", "idle")
        assert not (await it.status())["problems"]
        for model in ("held", "beside"):
            assert (await asked(both, model)).status_code == 200


async def test_f09_workers_that_stay_when_their_main_process_dies_leave_nobody_waiting(
    tmp_path: Path,
) -> None:
    model = fake("--fork", "1", "--any-tracer", stop_timeout=0.2)
    async with box(tmp_path, {"a": model}) as it:
        await it.load("a")
        [main], [worker] = it.journal("a", "started"), it.journal("a", "child")
        async with holding(tmp_path, worker["pid"]):
            psutil.Process(main["pid"]).kill()
            now = await it.until("a", "stopping")
            assert (now["error"]["code"], now["error"]["message"]) == (
                "engine_died",
                "ended by SIGKILL",
            )
        await it.until("a", "idle")
        assert not psutil.pid_exists(worker["pid"])


async def test_f09_a_sidecar_ends_though_its_engine_does_not(tmp_path: Path) -> None:
    model = fake("--any-tracer", stop_timeout=0.2)
    quick = {"orphan_grace": "0.1s", "shutdown_timeout": "0.2s"}
    async with box(tmp_path, {"a": model}, **quick) as it:
        await it.load("a")
        [started] = it.journal("a", "started")
        async with holding(tmp_path, started["pid"]):
            it.server.program.terminate()
            await it.server.program.wait()
    await until(lambda: not psutil.pid_exists(started["pid"]))
