"""More connections than a process may have by its usual limit."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import httpx

from tests.harness import client, router

FEW = 64  # open files, as 1,024 would be


@contextmanager
def few_files_for_what_is_started() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_program_takes_as_many_connections_as_the_hard_limit_lets_it(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        with few_files_for_what_is_started():
            started = router(tmp_path, "sidecars: [{url: 'http://127.0.0.1:1'}]")
            it = await stack.enter_async_context(started)
        url = httpx.URL(it.url)
        for _ in range(2 * FEW):
            stack.enter_context(socket.create_connection((url.host, url.port)))
        http = await stack.enter_async_context(client(it.url))
        assert (await http.get("/healthz")).status_code == httpx.codes.OK
