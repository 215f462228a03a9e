"""What clients get when engines, sidecars and clients themselves misbehave: the real pair."""

from pathlib import Path
from typing import Any

import anyio
import httpx

from tests.e2e.pair import Pair, ask, chat, embedded, fake, pair
from tests.harness import client, router, sidecar, until


async def test_a_missing_file_is_told_to_all_who_wait_with_its_cause(tmp_path: Path) -> None:
    async with pair(tmp_path, embedded("nowhere", tmp_path / "no.gguf")) as both:
        told = await ask(both.http, chat("nowhere"))
        assert told.error is not None
        assert (told.error["code"], told.error["cause"]) == ("load_failed", "file_missing")
        assert not told.done
        answer = await both.http.post("/v1/chat/completions", json=chat("nowhere", stream=False))
        assert (answer.status_code, answer.headers["x-should-retry"]) == (503, "false")
        assert answer.json()["error"]["cause"] == "file_missing"


async def test_requests_wait_for_a_sidecar_that_restarts(tmp_path: Path) -> None:
    model = fake("model", "--tokens", "2")
    async with pair(tmp_path, model) as both:
        port = httpx.URL(both.sidecar.url).port
        both.sidecar.program.terminate()
        await both.sidecar.program.wait()
        answers: list[Any] = []

        async def wait_for_it() -> None:
            answers.append(await ask(both.http, chat("model")))

        async with anyio.create_task_group() as group:
            group.start_soon(wait_for_it)
            await until(lambda: somebody_waits(both))
            text = f"box: box1\nmemory_limit: 1GiB\nmodels:\n{model}"
            async with sidecar(tmp_path / "box", text, port=port):
                await until(lambda: answers)
        assert answers[0].text == "tok0 tok1"


async def somebody_waits(both: Pair) -> bool:
    return bool((await both.http.get("/api/fleet")).json()["line"])


async def test_a_box_that_stays_away_is_an_error_after_its_grace(tmp_path: Path) -> None:
    async with pair(tmp_path, fake("model"), router_yaml="box_grace: 500ms") as both:
        both.sidecar.program.terminate()
        await both.sidecar.program.wait()
        answer = await both.http.post("/v1/chat/completions", json=chat("model", stream=False))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "box_unreachable")
        assert "retry-after" in answer.headers


async def test_a_model_that_can_never_fit_is_refused_with_the_sum(tmp_path: Path) -> None:
    async with pair(tmp_path, "  huge: {engine: command, command: [x], vram: 8GiB}\n") as both:
        answer = await both.http.post("/v1/chat/completions", json=chat("huge", stream=False))
        assert answer.json()["error"]["code"] == "does_not_fit"
        assert "8.0 GiB" in answer.json()["error"]["message"]


async def test_a_busy_model_is_drained_and_its_answers_are_not_cut(tmp_path: Path) -> None:
    models = fake("long", "--tokens", "60", "--tokens-per-second", "60") + fake("short")
    async with pair(tmp_path, models) as both:
        await ask(both.http, chat("short"))  # how long it loads is known from here on
        answers: dict[str, Any] = {}

        async def wait_for(model: str) -> None:
            answers[model] = await ask(both.http, chat(model))

        async with anyio.create_task_group() as group:
            group.start_soon(wait_for, "long")
            await until(lambda: both.loaded("long"))
            group.start_soon(wait_for, "short")
        assert len(answers["long"].text.split()) == 60
        assert answers["long"].done
        assert "finishing current requests" in answers["short"].steps
        assert answers["short"].done


async def test_models_that_fit_together_stay_together(tmp_path: Path) -> None:
    small = fake("one").replace("700MiB", "400MiB") + fake("two").replace("700MiB", "400MiB")
    async with pair(tmp_path, small) as both:
        for model in ("one", "two"):
            assert (await ask(both.http, chat(model))).done
        assert await both.loaded("one")
        assert await both.loaded("two")
        assert (await ask(both.http, chat("one"))).switching == []


async def test_two_routers_on_one_box_are_both_served(tmp_path: Path) -> None:
    models = fake("one", "--tokens", "2") + fake("two", "--tokens", "2")
    async with pair(tmp_path, models) as both:
        (tmp_path / "second").mkdir()
        text = f"sidecars: [{{url: '{both.sidecar.url}'}}]"
        async with (
            router(tmp_path / "second", text) as second,
            client(second.url, timeout=30) as http,
            anyio.create_task_group() as group,
        ):
            for n in range(6):
                for front in (both.http, http):
                    group.start_soon(served, front, "one" if n % 2 else "two")


async def served(http: httpx.AsyncClient, model: str) -> None:
    told = await ask(http, chat(model))
    assert told.text == "tok0 tok1"
    assert told.done
