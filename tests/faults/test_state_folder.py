"""F35: what a sidecar keeps on disk, and does without."""

import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.harness import Program, Server, client, free_port, until
from tests.http.boxes import Box, Json, box, config, fake

DISK = 64 * 2**10  # bytes
# Not every root may, such as that of a container.
MAY_MOUNT = not subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode


async def test_f35_a_state_folder_that_vanishes_costs_nothing_that_runs(tmp_path: Path) -> None:
    async with box(tmp_path, {"a": fake(), "b": fake()}) as it:
        await it.load("a")
        shutil.rmtree(tmp_path / "state")
        error = await it.fail("b")
        assert (error["code"], error["cause"]) == ("load_failed", "crashed")
        assert "its log cannot be written: No such file or directory" in error["message"]

        async def told() -> bool:
            """the Status says what to do"""
            (problem,) = (await it.status())["problems"] or [""]
            return "was removed or replaced: start this sidecar again" in problem

        await until(told)
        assert (await it.ask("a")).status_code == 200
        assert len(it.journal("a", "started")) == 1


async def test_f35_what_cannot_be_written_down_is_a_problem_that_is_shown(tmp_path: Path) -> None:
    async with box(tmp_path, {"a": fake(), "b": fake()}) as it:
        obstacle = tmp_path / "state" / "launches.new"
        obstacle.mkdir()
        await it.load("a")
        (problem,) = (await it.status())["problems"]
        assert "cannot be written down" in problem
        obstacle.rmdir()
        await it.load("b")
        assert (await it.status())["problems"] == []


@asynccontextmanager
async def with_small_disk(tmp: Path, models: dict[str, Json]) -> AsyncIterator[tuple[Box, Path]]:
    """A sidecar whose state folder is a disk of its own, and that folder as others see it."""
    port, state = free_port(), tmp / "state"
    (tmp / "sidecar.yaml").write_text(f"listen: 127.0.0.1:{port}\n{config(tmp, models)}")
    state.mkdir()
    mounted = f'mount -t tmpfs -o size={DISK} tmpfs "$1" && shift && exec "$@"'
    argv = [sys.executable, "-m", "sidecar", "--config", str(tmp / "sidecar.yaml")]
    wrapped = ["unshare", "--mount", "sh", "-c", mounted, "sh", str(state), *argv]
    url = f"http://127.0.0.1:{port}"
    async with Program(wrapped, tmp) as program, client(url) as http:

        async def up() -> bool:
            assert program.code is None, program.log()
            with suppress(httpx.TransportError):
                return (await http.get("/healthz")).status_code == 200
            return False

        await until(up)
        server = Server(url, program, tmp / "sidecar.yaml")
        yield Box(server, http, tmp), Path(f"/proc/{program.pid}/root{state}")


@pytest.mark.skipif(not MAY_MOUNT, reason="it may not mount")
async def test_f35_on_a_full_disk_what_runs_serves_on_and_it_is_a_problem(tmp_path: Path) -> None:
    models = {"a": fake(), "b": fake()}
    async with with_small_disk(tmp_path, models) as (it, state):
        await it.load("a")
        with pytest.raises(OSError, match="No space left"):
            (state / "filled").write_bytes(bytes(DISK))
        await it.http.post("/models/b/load")
        (problem,) = await until(lambda: problems(it))
        assert "cannot be written down" in problem
        assert "No space left" in problem
        assert (await it.ask("a")).status_code == 200
        (state / "filled").unlink()
        await it.load("b")
        await until(lambda: is_without_problems(it))
        assert (await it.ask("b")).status_code == 200
        assert len(it.journal("a", "started")) == 1


async def problems(it: Box) -> list[str]:
    return list((await it.status())["problems"])


async def is_without_problems(it: Box) -> bool:
    return not await problems(it)
