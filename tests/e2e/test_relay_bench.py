"""The program that measures the way, with the real pair: it tells what it saw, and takes nothing
for an answer that is none."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from typing import Any

import pytest

from bench.relay.engine import ANSWER, DIGITS, DONE, event
from bench.relay.figures import FIGURES
from bench.relay.load import Job
from tests.fakes.box import Exchange, FakeBox
from tests.harness import ROOT

QUICK = ["--rounds", "2", "--seconds", "0.2"]
NUMBERS = {
    "requests": {"requests_per_s", "took_p50_ms", "took_p99_ms"},
    "chunks": {"chunks_per_s"},
    "streams-50": {"chunks_per_s", "lag_p50_ms", "lag_p99_ms", "added_lag_p50_ms"},
}


async def run(module: str, *arguments: str, said: bytes = b"") -> tuple[int | None, bytes, str]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe
    )
    out, err = await process.communicate(said)
    return process.returncode, out, err.decode()


async def test_a_run_tells_each_figure_of_the_pair_and_of_the_engine_alone() -> None:
    only = [word for name in NUMBERS for word in ("--only", name)]
    code, out, err = await run("bench.relay", *QUICK, *only)
    assert code == 0, err
    figures = json.loads(out)["figures"]
    assert [*figures] == [*NUMBERS]
    for name, numbers in NUMBERS.items():
        direct, pair = (figures[name]["targets"][target] for target in ("direct", "pair"))
        assert numbers <= direct.keys()
        assert numbers | {"router_cpu_us", "sidecar_cpu_us"} <= pair.keys()
        assert len(pair["rounds"]) == 2
        assert all(seen["units"] >= FIGURES[name].connections for seen in pair["rounds"])


async def another_status(asked: Exchange) -> None:
    await asked.whole(503, ANSWER)


async def other_bytes(asked: Exchange) -> None:
    await asked.whole(200, ANSWER.replace(b" ", b""))


async def cut_in_mid_stream(asked: Exchange) -> None:
    await asked.events()
    await asked.chunk(event(b"0" * DIGITS))
    asked.cut()


async def a_chunk_too_few(asked: Exchange) -> None:
    await asked.events()
    await asked.chunk(event(b"0" * DIGITS) + DONE)
    await asked.end()


@pytest.mark.parametrize(
    ("script", "tokens", "why"),
    [
        (another_status, 0, "status 503"),
        (other_bytes, 0, "not the engine's answer"),
        (cut_in_mid_stream, 2, "the connection was lost"),
        (a_chunk_too_few, 2, "1 chunks of 2"),
    ],
)
async def test_a_relay_that_loses_something_has_no_speed(
    script: Any, tokens: int, why: str
) -> None:
    async with FakeBox("any", [], script) as server:
        job = Job(server.url, "", 1, seconds=0.1, warm_up=0.0, tokens=tokens)
        code, out, err = await run("bench.relay.load", said=json.dumps(asdict(job)).encode())
    assert (code, out) == (1, b"")
    assert why in err
