"""The program that plays traces, against the real pair: what it says is what happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.traces.play import Seen, figures, play
from bench.traces.traces import MODELS, TRACES, Setting
from bench.traces.yard import LAYOUTS, yard
from bench.workload import Agent, Arrival, Workload
from tests.fakes.box import Exchange, FakeBox
from tests.harness import free_port

LOAD = 0.1


@pytest.mark.parametrize("stream", [True, False])
async def test_every_request_of_a_trace_is_answered_and_timed(tmp_path: Path, stream: bool) -> None:
    asked = TRACES["poisson"](Setting(seconds=3.0, rate=8.0, seed=1))
    async with yard(tmp_path, LAYOUTS["one-box"], MODELS, LOAD) as pair:
        seen = await play(pair.url, asked, stream=stream, patience=30.0)
        loads = pair.loads
    assert [s.model for s in sorted(seen, key=lambda s: s.asked)] == [
        arrival.model for arrival in asked.arrivals
    ]
    assert {s.status for s in seen} == {200}
    for s in seen:
        assert s.first is not None
        assert 0 < s.first <= s.whole
        assert s.whole >= s.answer
    told = figures(seen)
    assert (told["requests"], told["without_an_answer"]) == (len(seen), 0)
    assert sum(model["n"] for model in told["wait_s_by_model"].values()) == len(seen)
    assert told["wait_s"]["max"] >= LOAD, "the first of them, at least"
    assert loads >= 3, "one box, one place, three models"


@pytest.mark.parametrize("layout", ["two-boxes", "two-fit"])
async def test_layouts_hold_two_models_at_a_time(tmp_path: Path, layout: str) -> None:
    agent = Agent(("A", "B"), (0.1, 0.1), pause=0.0, seed=1)
    async with yard(tmp_path, LAYOUTS[layout], MODELS, LOAD) as pair:
        seen = await play(pair.url, Workload(2.0, agents=(agent,)), stream=True, patience=30.0)
        assert pair.loads == 2
    assert [s.model for s in seen[:4]] == ["A", "B", "A", "B"]
    assert all(s.first is not None for s in seen)


async def test_a_request_without_an_answer_is_not_counted_as_one(tmp_path: Path) -> None:
    asked = Workload(0.0, (Arrival(0.0, "nobody-has-it", 0.1),))
    async with yard(tmp_path, LAYOUTS["one-box"], MODELS, LOAD) as pair:
        seen = await play(pair.url, asked, stream=True, patience=30.0)
    assert figures(seen)["without_an_answer"] == 1
    assert seen[0].status == 404


TOKEN = b'data: {"choices": [{"delta": {"content":"tok0 "}}]}\n\n'
ERROR = b'data: {"error": {"message": "died"}}\n\n'


async def cut(asked: Exchange) -> None:
    asked.cut()


async def cut_in_mid_stream(asked: Exchange) -> None:
    await asked.events()
    await asked.chunk(TOKEN)
    asked.cut()


async def error_in_mid_stream(asked: Exchange) -> None:
    await asked.events()
    await asked.chunk(TOKEN + ERROR)
    await asked.end()


async def whole(asked: Exchange) -> None:
    await asked.events()
    await asked.chunk(TOKEN + b"data: [DONE]\n\n")
    await asked.end()


async def test_half_an_answer_is_none_and_the_trace_goes_on() -> None:
    scripts = [whole, cut, cut_in_mid_stream, error_in_mid_stream, whole]
    seen: list[Seen] = []
    async with FakeBox("any", [], whole) as server:
        for server.engine in scripts:
            one = Workload(0.0, (Arrival(0.0, "A", 0.1),))
            seen += await play(server.url, one, stream=True, patience=30.0)
    assert [s.status for s in seen] == [200, None, 200, 200, 200]
    assert [s.first is not None for s in seen] == [True, False, False, False, True]
    assert figures(seen)["without_an_answer"] == 3


async def test_a_server_that_is_not_there_ends_the_trace() -> None:
    asked = Workload(0.0, (Arrival(0.0, "A", 0.1),))
    with pytest.raises(ExceptionGroup):
        await play(f"http://127.0.0.1:{free_port()}", asked, stream=False, patience=5.0)
