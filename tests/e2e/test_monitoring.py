"""Every example of docs/monitoring.md, run: against the real pair, when all is well and when not.

The expressions of Uptime Kuma are evaluated by a port of its JSONata, the templates of Home
Assistant by Jinja2 and the library for paths that it uses itself.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import jsonpath  # type: ignore[import-untyped]
import pytest
import yaml
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jsonata import Jsonata  # type: ignore[import-untyped]

from tests.e2e.pair import Pair, ask, chat, fake, pair
from tests.harness import ROOT, client, sidecar, until
from tests.keys import bearer, entry

PAGE = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
ROUTER, SIDECAR = "http://127.0.0.1:8080", "http://127.0.0.1:8090"  # in the page
Json = dict[str, Any]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@asynccontextmanager
async def demo(tmp: Path, *switches: str) -> AsyncIterator[Pair]:
    """The pair that the page was written with: `demo-small` is loaded, `demo-big` is not.
    `switches`: of the engine of `demo-big`."""
    models = fake("demo-small") + fake("demo-big", *switches)
    async with pair(tmp, models, name="demo") as both:
        await ask(both.http, chat("demo-small"))
        await until(lambda: nobody_is_served(both))
        yield both


async def nobody_is_served(both: Pair) -> bool:
    """both programs know that the answer has ended"""
    (box,) = (await both.http.get("/api/fleet")).json()["boxes"]
    models = [*box["models"], *(await both.status())["models"]]
    return box["phase"] == "ready" and not any(m["in_flight"] or m["waiting"] for m in models)


@pytest.fixture(scope="module")
async def well(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    async with demo(tmp_path_factory.mktemp("well")) as both:
        yield both


@pytest.fixture(scope="module")
async def failed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """`demo-big` was wanted, and could not be loaded."""
    switches = ("--fail-with", "no room for 9 | 8 layers")
    async with demo(tmp_path_factory.mktemp("failed"), *switches) as both:
        await ask(both.http, chat("demo-big"))
        yield both


async def said(both: Pair, url: str) -> Json:
    """What the page's URL leads to."""
    answer = await both.http.get(here(both, url))
    answer.raise_for_status()
    return dict(answer.json())


def here(both: Pair, text: str) -> str:
    return text.replace(ROUTER, both.router.url).replace(SIDECAR, both.sidecar.url)


# In a shell.


def run(both: Pair, command: str) -> subprocess.CompletedProcess[str]:
    """As typed: the page's default router is the pair's."""
    command = re.sub(r"\bprobe\b(?!.*--url)", f"probe --url {both.router.url}", command)
    env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    argv = ["bash", "-c", here(both, command)]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=30)


def commands() -> list[tuple[str, str]]:
    """Each command of the page with what it prints."""
    shown = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", "".join(blocks("console")), re.MULTILINE)
    assert len(shown) >= 7
    return shown


async def test_every_command_prints_what_the_page_shows(well: Pair) -> None:
    for command, shown in commands():
        ran = await anyio.to_thread.run_sync(run, well, command)
        assert ran.stderr == ""
        assert ran.stdout == here(well, shown)


async def test_the_checks_of_nrpe_are_ok_when_all_is_well_and_warn_of_a_failed_load(
    well: Pair, failed: Pair
) -> None:
    lines = re.findall(r"^command\[\w+\]=/opt/swapyard/.venv/bin/(.*)$", PAGE, re.MULTILINE)
    codes = [
        (await anyio.to_thread.run_sync(run, both, line)).returncode
        for both in (well, failed)
        for line in lines
    ]
    assert codes == [0, 0, 1, 0]  # the second line is about another model


# Uptime Kuma.


def queries() -> list[tuple[str, str]]:
    """Each expression with its URL, the last one named before it."""
    found, url = [], ""
    for at, block in re.findall(r"URL `(\S+)`|^```jsonata\n(.*?)^```$", PAGE, re.DOTALL | re.M):
        url = at or url
        if block:
            found.append((url, block))
    assert len(found) == len(blocks("jsonata")) == 3
    return found


def value_of(expression: str, response: Json) -> object:
    """As Uptime Kuma compares it: text, never an object or a list."""
    value = Jsonata(expression).evaluate(response)
    assert isinstance(value, str)
    return value


@pytest.mark.parametrize(("url", "expression"), queries())
async def test_every_query_is_ok_when_all_is_well(well: Pair, url: str, expression: str) -> None:
    assert value_of(expression, await said(well, url)) == "ok"


@pytest.mark.parametrize(("url", "expression"), queries())
async def test_every_query_says_what_is_wrong(failed: Pair, url: str, expression: str) -> None:
    response = await said(failed, url)
    told = str(value_of(expression.replace("demo-small", "demo-big"), response))
    assert told == "failed: demo-big" or told.endswith("no room for 9 | 8 layers")


def late(status: Json) -> Json:
    switch = {"to": "demo-big", "elapsed_s": 300.1, "from": ["demo-small"]}
    return {**status, "switches": [switch]}


FLEET, STATUS, MODEL = (expression for _, expression in queries())
WRONG: list[tuple[str, str, Callable[[Json], Json], str]] = [
    (FLEET, ROUTER, lambda f: {**f, "boxes": [{**f["boxes"][0], "live": False}]}, "reached: demo"),
    (FLEET, ROUTER, lambda f: {**f, "line": [{"model": "x", "oldest_s": 121}]}, "long wait for x"),
    (FLEET, ROUTER, lambda f: {**f, "boxes": [{**f["boxes"][0], "problems": ["p", "q"]}]}, "p; q"),
    (STATUS, SIDECAR, lambda s: {**s, "problems": ["no file"]}, "problem: no file"),
    (STATUS, SIDECAR, late, "long switch to demo-big"),
    (MODEL, SIDECAR, lambda s: {**s, "models": []}, "there is no such model"),
]


@pytest.mark.parametrize(("expression", "at", "change", "told"), WRONG)
async def test_a_query_tells_each_thing_that_is_worth_an_alert(
    well: Pair, expression: str, at: str, change: Callable[[Json], Json], told: str
) -> None:
    """In a real answer, with that one thing changed."""
    path = "/api/fleet" if at == ROUTER else "/models/status"
    assert told in str(value_of(expression, change(await said(well, at + path))))


# Home Assistant.


def rests() -> list[Json]:
    every = [entry for block in blocks("yaml") for entry in yaml.safe_load(block).get("rest", ())]
    assert len(every) == 2
    return every


def rendered(template: str, response: Json) -> str:
    env = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
    return env.from_string(template).render(value_json=response)


async def shown(both: Pair) -> dict[str, str]:
    """By name of the sensor."""
    found = {}
    for rest in rests():
        response = await said(both, rest["resource"])
        for sensor in (*rest["sensor"], *rest["binary_sensor"]):
            found[sensor["name"]] = rendered(sensor["value_template"], response)
    return found


async def test_every_sensor_shows_what_is_so(well: Pair) -> None:
    assert await shown(well) == {
        "Swapyard": "ready",
        "Swapyard demo-small": "ready",
        "Swapyard waiting": "0",
        "Swapyard problem": "False",
        "Swapyard switch too long": "False",
        "Swapyard longest wait": "0",
        "Swapyard boxes": "True",
    }


async def test_the_sensors_of_problems_show_them(failed: Pair) -> None:
    assert (await shown(failed))["Swapyard problem"] == "True"


async def test_the_sensor_of_boxes_shows_that_one_is_lost(tmp_path: Path) -> None:
    (rest,) = (rest for rest in rests() if rest["resource"].startswith(ROUTER))
    (sensor,) = rest["binary_sensor"]
    async with pair(tmp_path, fake("demo-small")) as both:
        both.sidecar.program.terminate()
        await both.sidecar.program.wait()

        async def shows_it() -> bool:
            response = await said(both, rest["resource"])
            return rendered(sensor["value_template"], response) == "False"

        await until(shows_it)


async def test_the_attributes_of_a_sensor_are_found(well: Pair) -> None:
    for rest in rests():
        response = await said(well, rest["resource"])
        for sensor in rest["sensor"]:
            there: Any = response
            if "json_attributes_path" in sensor:
                (there,) = jsonpath.search(sensor["json_attributes_path"], response)
                assert there["id"] == "demo-small"
            assert set(sensor.get("json_attributes", ())) <= there.keys()


# Prometheus.


async def test_what_prometheus_is_told_leads_to_the_metrics_with_a_key(tmp_path: Path) -> None:
    (job,) = next(said for b in blocks("yaml") if (said := yaml.safe_load(b).get("scrape_configs")))
    (target,) = job["static_configs"][0]["targets"]
    assert f"http://{target}" == SIDECAR
    assert set(job["authorization"]) == {"credentials_file"}  # its type is Bearer if none is said
    keys = json.dumps([entry("prometheus", "read")])
    text = f"keys: {keys}\nmodels:\n{fake('demo-small')}"
    async with sidecar(tmp_path, text) as box, client(box.url) as http:
        assert (await http.get("/metrics")).status_code == 401
        answer = await http.get("/metrics", headers=bearer("prometheus"))
        assert "swapyard_phase{" in answer.text


# What all of them have in common.


async def test_monitoring_never_loads_anything(tmp_path: Path) -> None:
    models = fake("demo-small") + fake("demo-big")
    async with pair(tmp_path, models, name="demo") as both:
        for command, _ in commands():
            await anyio.to_thread.run_sync(run, both, command)
        for url in ("/healthz", "/readyz", "/metrics", "/models/status", "/models", "/gpus"):
            (await both.http.get(both.sidecar.url + url)).raise_for_status()
        assert isinstance(await shown(both), dict)
        status = await both.status()
        assert (status["phase"], status["plan"], status["switches"]) == ("idle", [], [])
        assert "starting" not in both.sidecar.program.log()
