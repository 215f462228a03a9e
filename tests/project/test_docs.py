"""The documentation says what the code does: keys, endpoints, errors, phases, examples, links."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path, PurePosixPath

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from docs import generate
from router.app import make_app as make_router
from router.app import make_dispatch
from router.config import RouterConfig
from shared import errors
from shared.settings import Settings, read
from shared.status import Catalogue, Status
from sidecar import catalogue
from sidecar.app import make_app as make_sidecar
from sidecar.config import SidecarConfig
from sidecar.gpu import MemoryReader, SystemMemory
from sidecar.launcher import Launcher
from sidecar.launches import Launches
from sidecar.memory import Host, Memory
from sidecar.proxy import EngineProxy
from sidecar.runners import Runners
from sidecar.state import StateFolder
from sidecar.supervisor import Supervisor
from tests import documented

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
CONFIGS: dict[str, type[Settings]] = {"router.yaml": RouterConfig, "sidecar.yaml": SidecarConfig}


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page(name), re.DOTALL | re.MULTILINE)


# What is generated.


@pytest.mark.parametrize("name", generate.PAGES)
def test_generated_parts_are_up_to_date(name: str) -> None:
    text = page(f"docs/{name}")
    assert text == generate.generated(text), "make docs"


@pytest.mark.parametrize("part", ["phases", "router keys", "sidecar keys"])
def test_each_generated_part_has_its_place(part: str) -> None:
    text = "".join(page(f"docs/{name}") for name in generate.PAGES)
    assert text.count(f"<!-- {part} -->") == text.count(f"<!-- /{part} -->") == 1


def test_a_key_is_told_with_its_type_its_default_and_what_the_code_says_of_it() -> None:
    keys = {key.name: key for key in generate.keys(SidecarConfig)}
    assert keys["shutdown_timeout"] == (
        "shutdown_timeout",
        "duration",
        "`30s`",
        "as long as Kubernetes waits before it kills",
    )
    assert keys["models.NAME.slots"][1:3] == (
        "whole number, at least 1",
        "`4` (llama.cpp), `4` (embedded), `16` (command)",
    )
    assert keys["models.NAME.engine"][1:3] == ("`llama.cpp`, `embedded`, `command`", "unset")


@pytest.mark.parametrize("config", CONFIGS.values())
def test_every_key_is_in_the_page_of_keys(config: type[Settings]) -> None:
    text = page("docs/configuration.md")
    missing = [key.name for key in generate.keys(config) if f"| `{key.name}` |" not in text]
    assert missing == []


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.1, "0.1s"), (90, "90s"), (120, "2m"), (7200, "2h"), (float("inf"), "never")],
)
def test_durations_are_written_as_in_a_file(seconds: float, written: str) -> None:
    assert generate.duration(seconds) == written


# Examples.


def yaml_examples() -> list[tuple[str, str]]:
    pages = ("README.md", "docs/configuration.md", "docs/hermes.md")
    every = [(name, block) for name in pages for block in blocks(name, "yaml")]
    return [(name, block) for name, block in every if not block.startswith("# config.yaml\n")]


@pytest.mark.parametrize(("name", "text"), yaml_examples())
def test_every_config_example_can_be_read(name: str, text: str) -> None:
    file = text.partition("\n")[0].removeprefix("# ")
    read(CONFIGS[file], text, name=f"{name}: {file}", folder=PurePosixPath("/etc/yard"), env={})


@pytest.mark.parametrize("read_one", [Status.from_json, Catalogue.from_json])
def test_the_example_of_a_message_is_one(read_one: Callable[[str], object]) -> None:
    readable = 0
    for block in blocks("docs/http-api.md", "json"):
        if "boot" in json.loads(block):
            try:
                read_one(block)
            except ValueError:
                continue
            readable += 1
    assert readable == 1


def test_the_line_that_makes_a_key_makes_one() -> None:
    (block,) = (b for b in blocks("docs/configuration.md", "console") if "hashlib" in b)
    line, _, shown = block.partition("\n")
    python, *arguments = shlex.split(line.removeprefix("$ "))
    assert python == "python3"
    made = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True)
    for said in (shown, made.stdout):
        key, digest = re.findall(r"^(?:key|sha256): (\S+)$", said, re.MULTILINE)
        assert sha256(key.encode()).hexdigest() == digest
    assert made.stdout != shown


# Endpoints and errors.


@asynccontextmanager
async def nothing(app: Starlette) -> AsyncIterator[None]:
    yield


@pytest.fixture
def sidecar_app(tmp_path: Path) -> Iterator[Starlette]:
    config = SidecarConfig.model_validate(
        {"models": {"one": {"engine": "command", "command": ("true",)}}}
    )
    folder = StateFolder(tmp_path)
    known = catalogue.read(config)
    launcher, launches = Launcher(known, folder), Launches(folder.path)
    supervisor = Supervisor(
        name="box",
        config=config,
        known=known,
        folder=folder,
        reader=MemoryReader(SystemMemory()),
        seen=Memory(Host(total=1, used=0, free=1)),
        runners=Runners(folder, launcher, launches, httpx.AsyncClient()),
        left={},
    )
    yield make_sidecar((), supervisor, EngineProxy(supervisor), nothing)
    folder.close()


@pytest.fixture
def router_app() -> Starlette:
    config = RouterConfig.model_validate({"sidecars": ({"url": "http://127.0.0.1:1"},)})
    return make_router(config, make_dispatch(config))


def endpoints(app: Starlette) -> set[str]:
    """`POST /models/{model}/load`, and `ANY /...` where every method is taken."""
    found = set()
    for route in app.routes:
        assert isinstance(route, Route)
        methods = (route.methods or {"ANY"}) - {"HEAD"}
        found |= {f"{method} {route.path.replace(':path', '')}" for method in methods}
    return found


def test_the_page_of_the_api_has_every_endpoint_of_the_router_and_no_other(
    router_app: Starlette,
) -> None:
    assert documented_endpoints("router") == endpoints(router_app)


def test_the_page_of_the_api_has_every_endpoint_of_the_sidecar_and_no_other(
    sidecar_app: Starlette,
) -> None:
    assert documented_endpoints("sidecar") == endpoints(sidecar_app)


def documented_endpoints(program: str) -> set[str]:
    found = {f"{method} {path}" for method, path in documented.endpoints(program)}
    return {endpoint.replace("/engines/{model}/{path}", "/engines/{path}") for endpoint in found}


def test_every_error_code_is_in_the_page_of_the_api() -> None:
    tree = errors.__doc__ or ""
    codes = {*re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", tree), *re.findall(r"\d{3} +([a-z]\w+)", tree)}
    section = page("docs/http-api.md").partition("## Errors")[2].partition("\n## ")[0]
    documented = set(re.findall(r"^\| `([a-z_]+)` \|", section, re.MULTILINE))
    assert codes == documented


# Faults.


def test_the_list_of_faults_has_every_fault_that_is_tried_and_no_other() -> None:
    tests = "".join(path.read_text("utf-8") for path in ROOT.glob("tests/faults/test_*.py"))
    tried = {f"F{number}" for number in re.findall(r"^(?:async )?def test_f(\d\d)_", tests, re.M)}
    pages = page("docs/streams.md") + page("docs/reliability.md")
    listed = re.findall(r"^\| (F\d\d) \|", pages, re.MULTILINE)
    assert sorted(listed) == sorted(tried)


# Names and links.


def test_every_test_that_is_named_exists() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/*.py"))
    named = {
        name for path in PAGES for name in re.findall(r"`(test_\w+)`", path.read_text("utf-8"))
    }
    assert named
    assert [name for name in sorted(named) if f"def {name}(" not in tests] == []


def test_every_file_that_is_named_exists() -> None:
    named = re.findall(
        r"`((?:router|sidecar|shared|tests)/[\w/]+\.py)`", page("docs/architecture.md")
    )
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def links() -> list[tuple[Path, str]]:
    found = re.compile(r"\]\(([^)\s]+)\)")
    every = [(path, link) for path in PAGES for link in found.findall(path.read_text("utf-8"))]
    return [(path, link) for path, link in every if "://" not in link]


@pytest.mark.parametrize(("path", "target"), links())
def test_every_link_leads_somewhere(path: Path, target: str) -> None:
    file, _, anchor = target.partition("#")
    there = path.parent / file if file else path
    assert there.exists()
    assert not anchor or anchor in anchors(there.read_text(encoding="utf-8"))


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
