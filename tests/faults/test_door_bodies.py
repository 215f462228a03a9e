"""F50: bodies that are too large, or that nobody may send, at the real programs."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import psutil
import pytest

from tests.faults.doors import call, peers, status_in
from tests.harness import Program, Server, router, sidecar, until
from tests.keys import EVERY_SCOPE, bearer, entry

PROGRAMS = ("router", "sidecar")
LIMIT = 2**20  # bytes: the router's here, and always that of the sidecar's control plane
PATHS = {"router": "POST /v1/chat/completions", "sidecar": "PUT /demand/me"}


@dataclass(frozen=True)
class Asked:
    """A program, and the head of a request with a key that it knows."""

    server: Server
    line: str

    def head(self, *lines: str, key: str = "all") -> bytes:
        shown = [f"{name}: {value}" for name, value in bearer(key).items()]
        return "\r\n".join([f"{self.line} HTTP/1.1", "Host: a", *shown, *lines, "", ""]).encode()

    @property
    def program(self) -> Program:
        return self.server.program


@pytest.fixture(scope="module")
async def programs(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[dict[str, Asked]]:
    keys = f"keys: {json.dumps([entry('all', *EVERY_SCOPE)])}\n"
    models = f"{keys}models: {{one: {{engine: command, command: [sleep, '9']}}}}"
    boxes = f'{keys}max_body: {LIMIT}\nsidecars: [{{url: "http://127.0.0.1:1"}}]'
    async with (
        sidecar(tmp_path_factory.mktemp("sidecar"), models) as one,
        router(tmp_path_factory.mktemp("router"), boxes) as other,
    ):
        both = {"sidecar": one, "router": other}
        yield {name: Asked(both[name], PATHS[name]) for name in PROGRAMS}


@pytest.fixture(params=PROGRAMS)
def asked(request: pytest.FixtureRequest, programs: dict[str, Asked]) -> Asked:
    return programs[request.param]


async def test_f50_a_body_that_says_it_is_too_large_is_never_asked_for(asked: Asked) -> None:
    for lines in ([], ["Expect: 100-continue"]):
        async with call(asked.server.url) as it:
            it.say(asked.head(f"Content-Length: {LIMIT + 1}", *lines))
            assert await it.refused() == (413, "too_large")


async def test_f50_who_is_not_let_in_is_never_asked_for_its_body(asked: Asked) -> None:
    async with call(asked.server.url) as it:
        it.say(asked.head("Content-Length: 2", "Expect: 100-continue", key="nobody"))
        assert await it.refused() == (401, "unauthorized")


async def test_f50_who_is_let_in_is_asked_for_its_body(asked: Asked) -> None:
    async with call(asked.server.url) as it:
        it.say(asked.head("Content-Length: 2", "Expect: 100-continue"))
        assert status_in(await it.head()) == 100
        it.say(b"{}")
        assert (await it.answer())[0] == 400


async def test_f50_a_body_without_an_end_is_cut_off_at_the_limit(asked: Asked) -> None:
    process = psutil.Process(asked.program.pid)
    async with call(asked.server.url) as it:
        before = process.memory_info().rss
        it.say(asked.head("Transfer-Encoding: chunked"))
        for _ in range(32):
            it.say(b"%x\r\n%b\r\n" % (LIMIT, b"x" * LIMIT))
            await it.writer.drain()
        assert await it.refused() == (413, "too_large")
        assert process.memory_info().rss - before < 8 * LIMIT


async def test_f50_who_leaves_in_mid_body_is_no_error_of_ours(asked: Asked) -> None:
    async with call(asked.server.url) as it:
        _, port = it.writer.get_extra_info("sockname")
        it.say(asked.head("Content-Length: 9") + b"{")
        await it.writer.drain()
    await until(lambda: port not in peers(asked.program))
    async with call(asked.server.url) as it:
        it.say(asked.head("Content-Length: 2") + b"{}")
        await it.answer()
    assert "Traceback" not in asked.program.log()
