"""Many watch one box, and some of them do not read."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import httpx

from shared.status import Status
from tests.harness import Frame, frames
from tests.http.boxes import Box, box, echo

MANY_MODELS = {f"model-{n}": echo() for n in range(300)}  # a Status of 90 KB
CHANGES = 30  # each a Status: more than the kernel's buffers and ours hold


@contextmanager
def stuck(url: httpx.URL, path: str) -> Iterator[socket.socket]:
    """A watcher that asks, and never reads."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((url.host, url.port))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: box\r\n\r\n".encode())
        yield connection


async def test_a_watcher_that_never_reads_holds_up_nobody_who_does(tmp_path: Path) -> None:
    async with box(tmp_path, MANY_MODELS) as it, AsyncExitStack() as stack:
        stack.enter_context(stuck(it.http.base_url, "/models/events"))
        response = await stack.enter_async_context(it.http.stream("GET", "/models/events"))
        heard = frames(response)
        for _ in range(CHANGES):
            newest = await glance(it)
            while Status.from_json((await anext(heard)).data).seq < newest:
                pass


async def glance(it: Box) -> int:
    """A new watcher makes a new Status."""
    async with it.http.stream("GET", "/models/events") as response:
        return Status.from_json((await anext(frames(response))).data).seq


async def test_all_who_watch_hear_the_same_bytes(tmp_path: Path) -> None:
    async with box(tmp_path, {"a": echo()}) as it, AsyncExitStack() as stack:
        streams = [
            frames(await stack.enter_async_context(it.http.stream("GET", "/models/events")))
            for _ in range(5)
        ]
        heard: list[dict[int, Frame]] = [{} for _ in streams]

        async def read(n: int) -> None:
            async for frame in streams[n]:
                status = Status.from_json(frame.data)
                heard[n][status.seq] = frame
                if status.models[0].phase == "ready":
                    return

        readers = [asyncio.ensure_future(read(n)) for n in range(len(streams))]
        await it.http.post("/models/a/load")
        await asyncio.gather(*readers)
    common = set.intersection(*(set(one) for one in heard))
    assert common
    assert all(len({one[seq].data for one in heard}) == 1 for seq in common)


async def test_who_asks_for_the_head_alone_gets_it_and_its_connection_serves_on(
    tmp_path: Path,
) -> None:
    async with box(tmp_path, {"a": echo()}) as it:
        for _ in range(2):
            head = await it.http.head("/models/events")
            assert head.headers["content-type"].startswith("text/event-stream")
        assert (await it.http.get("/healthz")).is_success
