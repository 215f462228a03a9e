"""Whom the doors of both programs let in: every endpoint, with every kind of key."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from shared.app import App
from shared.auth import Key
from shared.gate import Guarded, guard
from shared.status import LoadError, Phase
from tests.documented import endpoints
from tests.fakes.box import Exchange
from tests.harness import Program, Server, free_port, until
from tests.http.boxes import Box, Json, box, echo, model
from tests.http.yards import CHAT, Yard, error_in, error_of, yard
from tests.keys import EVERY_SCOPE, bearer, entry, secret

PROGRAMS = ("router", "sidecar")
KEYS = [*(entry(scope, scope) for scope in EVERY_SCOPE), entry("all", *EVERY_SCOPE)]
MODELS = {"a": echo(), "broken": model(["sh", "-c", "echo last words; exit 1"])}
WALK = [
    (program, method, path, needs)
    for program in PROGRAMS
    for (method, path), needs in endpoints(program).items()
]


@pytest.fixture(scope="module")
async def of_router(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    async with yard(tmp_path_factory.mktemp("router"), keys=KEYS) as it:
        yield it


@pytest.fixture(scope="module")
async def of_sidecar(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Box]:
    async with box(tmp_path_factory.mktemp("sidecar"), MODELS, keys=KEYS) as it:
        yield it


@pytest.fixture
def clients(of_router: Yard, of_sidecar: Box) -> dict[str, httpx.AsyncClient]:
    of_router.reset()
    return {"router": of_router.http, "sidecar": of_sidecar.http}


@pytest.fixture
def servers(of_router: Yard, of_sidecar: Box) -> dict[str, Server]:
    return {"router": of_router.server, "sidecar": of_sidecar.server}


async def status_of(
    http: httpx.AsyncClient, method: str, path: str, headers: dict[str, str]
) -> int:
    """The answer's status alone: an event stream would never end."""
    method = method.replace("ANY", "POST")
    path = path.format(model="nobody", path="x", router="me")
    async with http.stream(method, path, headers=headers, content=b"{}") as response:
        if response.status_code in (401, 403):
            await response.aread()
            error_of(response)
        return response.status_code


# Every endpoint.


@pytest.mark.parametrize(
    ("program", "method", "path", "needs"), WALK, ids=[" ".join(at[:3]) for at in WALK]
)
async def test_an_endpoint_lets_in_whom_the_page_of_the_api_says(
    clients: dict[str, httpx.AsyncClient], program: str, method: str, path: str, needs: set[str]
) -> None:
    assert needs <= {*EVERY_SCOPE, "everyone"}
    assert needs
    http = clients[program]
    for headers in ({}, {"x-api-key": "wrong"}):
        status = await status_of(http, method, path, headers)
        assert (status not in (401, 403)) if "everyone" in needs else status == 401
    for scope in EVERY_SCOPE:
        status = await status_of(http, method, path, bearer(scope))
        let_in = bool(needs & {scope, "everyone"})
        assert (status not in (401, 403)) if let_in else status == 403


async def nothing(request: Request) -> Response:
    return PlainTextResponse("inside")


@pytest.mark.parametrize("keys", [KEYS, []])
async def test_a_route_that_says_nothing_of_scopes_lets_nobody_in(keys: list[Json]) -> None:
    routes = guard(
        [Key.model_validate(key | {"scopes": tuple(key["scopes"])}) for key in keys],
        [Route("/forgotten", nothing), Guarded("/empty", nothing), Guarded("/ok", nothing, "read")],
    )
    app = httpx.ASGITransport(App(routes=routes))
    async with httpx.AsyncClient(
        transport=app, base_url="http://any", headers=bearer("all")
    ) as http:
        statuses = [(await http.get(path)).status_code for path in ("/forgotten", "/empty", "/ok")]
    assert statuses == [403, 403, 200]


# What those are told who are not let in.


@pytest.mark.parametrize("program", PROGRAMS)
async def test_a_body_is_not_read_before_its_request_is_let_in(
    clients: dict[str, httpx.AsyncClient], program: str
) -> None:
    """The answer comes while the body does not; then that is thrown away as it comes, and is the
    end of the connection."""
    url, size = clients[program].base_url, 8 * 2**20
    path = {"router": CHAT, "sidecar": "/engines/a/v1/x"}[program]
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert head.startswith(b"HTTP/1.1 401 ")
    assert b"www-authenticate: Bearer\r\n" in head
    assert b"x-should-retry: false\r\n" in head
    assert b"connection: close\r\n" in head
    writer.write(b"x" * size + b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    rest = await asyncio.wait_for(reader.read(), 10)
    assert b"HTTP/1.1" not in rest
    writer.close()


def lines(server: Server, event: str) -> list[Json]:
    said = [line for line in server.program.log().splitlines() if line.startswith("{")]
    return [line for line in map(json.loads, said) if line["event"] == event]


@pytest.mark.parametrize("program", PROGRAMS)
async def test_who_is_not_let_in_is_one_line_in_the_log_with_the_keys_name_and_no_key(
    clients: dict[str, httpx.AsyncClient], servers: dict[str, Server], program: str
) -> None:
    path = {"router": "/api/fleet", "sidecar": "/models/status"}[program]
    before = len(lines(servers[program], "not let in"))
    for headers in (bearer("inference"), bearer("unknown"), bearer("read")):
        await clients[program].get(f"{path}?key={secret('query')}", headers=headers)
    logged = lines(servers[program], "not let in")[before:]
    shown = ("path", "client", "key", "code", "level")
    assert [tuple(line[name] for name in shown) for line in logged] == [
        (path, "127.0.0.1", "inference", "forbidden", "info"),
        (path, "127.0.0.1", None, "unauthorized", "info"),
    ]
    assert "sk-" not in servers[program].program.log()


# Logs of engines.


@pytest.mark.parametrize(("name", "shown"), [("inference", False), ("all", True)])
@pytest.mark.parametrize("stream", [True, False])
async def test_an_engines_last_words_are_for_keys_that_may_read(
    clients: dict[str, httpx.AsyncClient], of_router: Yard, name: str, shown: bool, stream: bool
) -> None:
    it = of_router
    await until(lambda: it.box.waiting("cold") == 0)
    asking = asyncio.ensure_future(it.ask("cold", stream=stream, headers=bearer(name)))
    await until(lambda: it.box.waiting("cold") == 1)
    error = LoadError("load_failed", "vram_oom", "no memory", time.time(), log_tail=("words",))
    it.box.say("cold", phase=Phase.IDLE, error=error)
    response = await asking
    told = await error_in(response) if stream else error_of(response)
    assert (told["code"], told["cause"]) == ("load_failed", "vram_oom")
    assert told.get("log_tail") == (["words"] if shown else None)


@pytest.mark.parametrize(("name", "shown"), [("admin", []), ("all", ["last words"])])
async def test_who_may_load_but_not_read_sees_no_log_in_the_status(
    of_sidecar: Box, name: str, shown: list[str]
) -> None:
    http = of_sidecar.http
    await http.post("/models/broken/load", headers=bearer("admin"))

    async def failed() -> bool:
        status = (await http.get("/models/status", headers=bearer("read"))).json()
        return any(m["id"] == "broken" and m["error"] for m in status["models"])

    await until(failed)
    status = (await http.post("/models/a/unload", headers=bearer(name))).json()
    (error,) = (m["error"] for m in status["models"] if m["id"] == "broken")
    assert (error["code"], error["log_tail"]) == ("load_failed", shown)


# The router's own key.


async def test_a_box_that_does_not_take_the_routers_key_is_not_the_clients_fault(
    clients: dict[str, httpx.AsyncClient], of_router: Yard
) -> None:
    async def not_let_in(asked: Exchange) -> None:
        await asked.json(403, {"error": {}}, www_authenticate="Bearer")

    of_router.box.engine = not_let_in
    response = await of_router.ask(stream=False, headers=bearer("inference"))
    error = error_of(response)
    assert (response.status_code, error["code"]) == (503, "box_unreachable")
    assert error["message"].startswith("The box box1 does not let this router in")


# Beyond loopback.

BEYOND = "listen: '127.1:{port}'\n"  # loopback to the kernel; for all we know, it is not


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("door", "warnings"),
    [("open: true", 1), (f"keys: {json.dumps(KEYS)}", 0)],
    ids=["open", "keys"],
)
async def test_a_program_that_is_open_to_everyone_says_so_at_each_start(
    tmp_path: Path, program: str, door: str, warnings: int
) -> None:
    path = tmp_path / "config.yaml"
    rest = {
        "router": "sidecars: [{url: 'http://127.0.0.1:1'}]",
        "sidecar": "models: {a: {engine: command, command: ['true']}}",
    }
    path.write_text(f"{BEYOND.format(port=free_port())}{door}\n{rest[program]}\n")
    argv = [sys.executable, "-m", program, "--config", str(path)]
    async with Program(argv, tmp_path) as started:
        await until(lambda: '"ready"' in started.log())
        said = [line for line in started.log().splitlines() if "open to everyone" in line]
    assert len(said) == warnings
    assert all('"level":"warning"' in line for line in said)
