"""F37 and F38: changes without end before many who watch, and engines that never stop talking."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psutil
import pytest

from shared.sse import Decoder
from sidecar.process import LINE_LIMIT, LINES_KEPT, LOG_LIMIT
from tests.e2e.pair import ask, chat
from tests.fakes.floods import BYTES_PER_SECOND, KINDS
from tests.faults.streams import Yard, engine, yard
from tests.harness import Frame, client, frames, until
from tests.http.boxes import box, fake, model
from tests.http.test_watchers import stuck

# F37: a storm of changes.

WATCHERS = 200
CHANGES = 300
BYTES_OF_A_CHANGE = 4 * 2**10  # in the log: some lines of JSON for each load
MEBIBYTE = 2**20


async def newest_seq(url: httpx.URL, last: asyncio.Future[int]) -> list[int]:
    """The numbers of all that one watcher was told, until it was told the last one."""
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(b"GET /models/events HTTP/1.1\r\nHost: box\r\n\r\n")
    decoder, told = Decoder(), list[int]()
    await reader.readuntil(b"\r\n\r\n")
    while not (last.done() and told and told[-1] >= last.result()):
        for event in decoder.feed(await reader.read(2**16)):
            if event.event == "status":
                told.append(json.loads(event.data)["seq"])
    writer.close()
    return told


async def test_f37_a_storm_of_changes_reaches_all_who_read_and_is_kept_for_nobody_who_does_not(
    tmp_path: Path,
) -> None:
    """Each load that fails at once is a change. Who is late is told the newest, and no backlog."""
    models = {"missing": model(["/no/such/program"]), "serves": fake()}
    async with box(tmp_path, models) as it:
        url, last = it.http.base_url, asyncio.get_running_loop().create_future()
        await it.load("serves")
        with stuck(url, "/models/events") as one, stuck(url, "/models/events"):
            assert one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            every = [asyncio.ensure_future(newest_seq(url, last)) for _ in range(WATCHERS)]
            sidecar = psutil.Process(it.server.program.pid)
            before, seq = sidecar.memory_info().rss, (await it.status())["seq"]

            async def change() -> None:
                for _ in range(CHANGES // 10):
                    await it.http.post("/models/missing/load")

            changes = asyncio.gather(*(change() for _ in range(10)))
            served = 0
            while not changes.done():
                assert (await it.ask("serves")).status_code == 200
                served += 1
            await changes
            assert served > 1
            assert len(it.server.program.log().encode()) < CHANGES * BYTES_OF_A_CHANGE
            last.set_result((await it.status())["seq"])
            assert last.result() - seq >= CHANGES
            for told in await asyncio.gather(*every):
                assert told == sorted(set(told))
                assert told[-1] >= last.result()
            grown = sidecar.memory_info().rss - before
            assert grown < 32 * MEBIBYTE, f"{grown / MEBIBYTE:.0f} MiB for {WATCHERS} who watch"


# F38: a flood of log.

TOKENS = {"lines": 50, "endless": 50, "blank": 10, "binary": 10}  # 50 a second, while it floods


@pytest.fixture(scope="module")
async def flooded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    folder = tmp_path_factory.mktemp("floods")
    models = engine(folder, "quiet", "--tokens", "100000", "--tokens-per-second", "50")
    for kind in KINDS:
        load = ("--load-seconds", "0.6", "--log-flood", kind)
        models += engine(folder, kind, *load, more=", stall_timeout: 500ms")
    async with yard(folder, models) as it:
        yield it


@pytest.mark.parametrize("kind", KINDS)
async def test_f38_a_flood_of_log_is_cut_and_holds_up_nobody(flooded: Yard, kind: str) -> None:
    """Also while it loads, when the log is read every few milliseconds, and it is no silence."""
    async with client(flooded.pair.sidecar.url) as sidecar:
        async with flooded.http.stream(
            "POST", "/v1/chat/completions", json=chat("quiet")
        ) as response:
            answer = frames(response)
            while "tok0" not in (await anext(answer)).data:
                pass  # what is told of its load
            assert (await ask(flooded.http, chat(kind))).done
            largest, said = 0, []
            for _ in range(TOKENS[kind]):
                said.append(number_in(await anext(answer)))
                log = next((flooded.folder / "box" / "state" / "logs").glob(f"{kind},*"))
                largest = max(largest, log.stat().st_size)
            assert said == list(range(said[0], said[0] + TOKENS[kind]))
            assert largest < LOG_LIMIT + BYTES_PER_SECOND / 2
            lines = (await sidecar.get(f"/models/{kind}/logs")).text.split("\n")
            assert len(lines) <= LINES_KEPT + 1
            assert max(map(len, lines), default=0) <= LINE_LIMIT
        for id in (kind, "quiet"):
            await sidecar.post(f"/models/{id}/unload")
            await until(lambda id=id: is_idle(flooded, id))


def number_in(frame: Frame) -> int:
    """Of its token: they are counted, so none is missing and none is said twice."""
    content = json.loads(frame.data)["choices"][0]["delta"]["content"]
    return int(content.strip().removeprefix("tok"))


async def is_idle(it: Yard, id: str) -> bool:
    return bool((await it.of(id))["phase"] == "idle")
