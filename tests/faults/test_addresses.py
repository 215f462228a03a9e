"""F68: a box whose name cannot be resolved, or has addresses at which nobody listens."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.e2e.pair import ask, chat, fake, until_heard
from tests.faults.preloads import Names
from tests.harness import Program, Server, client, free_port, router, sidecar, until

NAME = "box.example"


@dataclass(frozen=True)
class Front:
    program: Server
    http: httpx.AsyncClient

    async def serves(self) -> None:
        """By both ways to the box: what it says of itself, and the answers of its engines."""
        await until_heard(self.http)
        assert (await ask(self.http, chat("model"))).done


@pytest.fixture
def names(tmp_path: Path) -> Names:
    return Names.made(tmp_path)


@asynccontextmanager
async def before(tmp_path: Path, names: Names, host: str, port: int) -> AsyncIterator[Front]:
    """A router that knows its box by that name or address."""
    (tmp_path / "router").mkdir()
    text = f"sidecars: [{{url: 'http://{host}:{port}'}}]\nbox_grace: 500ms"
    async with (
        router(tmp_path / "router", text, env=names.env) as front,
        client(front.url, timeout=30) as http,
    ):
        yield Front(front, http)


@asynccontextmanager
async def box(tmp_path: Path) -> AsyncIterator[int]:
    text = f"memory_limit: 1GiB\nmodels:\n{fake('model')}"
    async with sidecar(tmp_path, text) as it:
        port = httpx.URL(it.url).port
        assert port is not None
        yield port


@asynccontextmanager
async def box_at(tmp_path: Path, address: str) -> AsyncIterator[int]:
    """A box that listens at another address than all others in the tests."""
    port = free_port()
    config = tmp_path / "sidecar.yaml"
    text = f"listen: '{address}:{port}'\nmemory_limit: 1GiB\nmodels:\n{fake('model')}"
    config.write_text(text)
    argv = [sys.executable, "-m", "sidecar", "--config", str(config)]
    async with Program(argv, tmp_path) as program:
        await until(lambda: '"event":"ready"' in program.log())
        yield port


async def test_f68_an_address_at_which_nobody_listens_is_passed_over(
    tmp_path: Path, names: Names
) -> None:
    """So it is with `localhost` where ::1 comes first, and a box that listens on 127.0.0.1."""
    names.lead("localhost", "::1", "127.0.0.1")
    async with box(tmp_path) as port, before(tmp_path, names, "localhost", port) as front:
        await front.serves()


@pytest.mark.parametrize("host", ["[::1]", NAME])
async def test_f68_a_box_may_be_at_an_address_of_ipv6_alone(
    tmp_path: Path, names: Names, host: str
) -> None:
    names.lead(NAME, "::1")
    async with box_at(tmp_path, "[::1]") as port, before(tmp_path, names, host, port) as front:
        await front.serves()


async def test_f68_a_name_that_cannot_be_resolved_is_told_and_found_when_it_can(
    tmp_path: Path, names: Names
) -> None:
    names.lead(NAME)
    async with box(tmp_path) as port, before(tmp_path, names, NAME, port) as front:
        await until(lambda: "name resolution" in front.program.program.log())
        [shown] = (await front.http.get("/api/fleet")).json()["boxes"]
        assert "name resolution" in shown["trouble"]
        names.lead(NAME, "127.0.0.1")
        await front.serves()


async def test_f68_a_box_that_was_heard_is_found_again_at_its_new_address(
    tmp_path: Path, names: Names
) -> None:
    """A name that fails for a while harms no connection that is there."""
    names.lead(NAME, "127.0.0.1")
    async with box(tmp_path) as port, before(tmp_path, names, NAME, port) as front:
        await front.serves()
        names.lead(NAME)
        assert (await ask(front.http, chat("model"))).done
        names.lead(NAME, "::1", "127.0.0.1")
        await front.serves()
