"""The real Hermes agent behind the real pair: what it shows while a model loads, and afterwards."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.pair import Pair, embedded, fake, make_model, pair
from tests.harness import Server, client, until
from tests.hermes.agent import Agent, answer, reasoning

CONTEXT = "context_length: 131072"  # Hermes refuses a model with less than 64,000
ANSWERS = {
    "demo-small": "Hello from demo-small: I load in a blink, know just this one sentence, "
    "and always say it gladly.",
    "demo-big": "You woke demo-big: four hundred megabytes were read from disk "
    "so that this one answer could reach you.",
}
ASKED = ("chat", "-q", "Say hello")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: make_model(folder, name) for name in ANSWERS}


@pytest.fixture
async def demo(tmp_path: Path, models: dict[str, Path]) -> AsyncIterator[Pair]:
    """Two real models that do not fit together, told as Hermes can show it."""
    lines = "".join(
        embedded(name, path).replace("context_length: 8192", CONTEXT)
        for name, path in models.items()
    )
    async with pair(tmp_path, lines, router_yaml=dialect("events+reasoning")) as both:
        yield both


def dialect(name: str) -> str:
    return f"progress: {{dialect: {name}, interval: 500ms}}"


def agent(both: Pair, tmp: Path) -> Agent:
    return Agent(tmp / "hermes", both.router.url)


def logged(server: Server) -> list[dict[str, Any]]:
    lines = server.program.log().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def loads(both: Pair) -> list[str]:
    """The models that were started, in order."""
    said = [line for line in logged(both.sidecar) if line["event"] == "phase"]
    return [line["model"] for line in said if line["phase"] == "starting"]


def chats(both: Pair) -> int:
    """How many requests for an answer the router has had, however they ended. Each is logged at its
    end: the number is final when the router is."""
    return len([line for line in logged(both.router) if "request" in line])


async def test_r0_6_hermes_shows_a_first_load_as_it_happens_and_then_the_answer(
    demo: Pair, tmp_path: Path
) -> None:
    said = await agent(demo, tmp_path).says("demo-small", *ASKED)
    told = reasoning(said)
    assert told[0].startswith("demo-small on box1: ")
    assert any("starting new model" in line for line in told)
    assert "is ready after" in told[-1]
    assert answer(said) == ANSWERS["demo-small"]
    assert loads(demo) == ["demo-small"]


async def test_r0_6_hermes_shows_a_switch_as_it_happens_and_then_the_answer(
    demo: Pair, tmp_path: Path
) -> None:
    async with client(demo.sidecar.url) as http:
        await http.post("/models/demo-small/load")
        await until(lambda: demo.loaded("demo-small"))
    said = await agent(demo, tmp_path).says("demo-big", *ASKED)
    told = reasoning(said)
    assert any("stopping current model (demo-small)" in line for line in told)
    assert "demo-big on box1 is ready after" in told[-1]
    assert answer(said) == ANSWERS["demo-big"]
    assert loads(demo) == ["demo-small", "demo-big"]  # by hand, and by the one chat
    await until(lambda: chats(demo) == 1)
    assert await demo.phase("demo-small") == "idle"


async def test_r0_6_a_script_that_runs_hermes_gets_the_answer_and_nothing_else(
    demo: Pair, tmp_path: Path
) -> None:
    said = await agent(demo, tmp_path).says("demo-small", "-z", "Say hello")
    assert said.strip() == ANSWERS["demo-small"]


async def test_r0_6_what_hermes_asks_before_it_chats_never_causes_a_load(tmp_path: Path) -> None:
    """It looks at the model, finds its context too short, and never asks it anything."""
    async with pair(tmp_path, fake("short", more=", context_length: 8192")) as both:
        said = await agent(both, tmp_path).says("short", *ASKED)
        assert "context window of 8,192 tokens" in " ".join(said.split())
        assert loads(both) == []
        assert chats(both) == 0


async def test_r0_6_hermes_says_why_a_load_failed(tmp_path: Path) -> None:
    broken = fake("broken", "--fail-with", "CUDA error: out of memory", more=f", {CONTEXT}")
    async with pair(tmp_path, broken, router_yaml=dialect("events+reasoning")) as both:
        said = " ".join((await agent(both, tmp_path).says("broken", *ASKED)).split())
        assert "broken could not be loaded: exited with code 1: CUDA error: out of memory" in said
        assert await nobody_waits(both)


@pytest.mark.parametrize(("name", "stays"), [("events+reasoning", True), ("comments", False)])
async def test_r0_6_progress_keeps_hermes_waiting_and_comments_do_not(
    tmp_path: Path, name: str, stays: bool
) -> None:
    """Its patience is made short; a load takes longer than that."""
    slow = fake("slow", "--load-seconds", "6", more=f", {CONTEXT}")
    async with pair(tmp_path, slow, router_yaml=dialect(name)) as both:
        patience = {"HERMES_LOCAL_STREAM_STALE_TIMEOUT": "2"}
        said = await agent(both, tmp_path).says("slow", *ASKED, **patience)
        assert answer(said).startswith("tok0 tok1")
    assert (chats(both) == 1) is stays  # else it has hung up, and asked again


async def test_r0_6_hermes_that_is_killed_while_it_waits_leaves_nobody_in_the_line(
    tmp_path: Path,
) -> None:
    slow = fake("slow", "--load-seconds", "60", more=f", {CONTEXT}")
    async with (
        pair(tmp_path, slow, router_yaml=dialect("events+reasoning")) as both,
        agent(both, tmp_path).program("slow", *ASKED) as hermes,
    ):
        await until(lambda: somebody_waits(both), timeout=60)
        hermes.kill()
        await until(lambda: nobody_waits(both))


async def somebody_waits(both: Pair) -> bool:
    return bool((await both.http.get("/api/fleet")).json()["line"])


async def nobody_waits(both: Pair) -> bool:
    models = (await both.status())["models"]
    return not await somebody_waits(both) and not any(model["waiting"] for model in models)
