"""F48: clients that take nothing, or little. The engine is held up, next to nothing is kept, and
others do not notice.
"""

import time
from collections.abc import AsyncIterator

import httpx
import psutil
import pytest

from tests.e2e.pair import ask, chat
from tests.fakes.misbehaviour import KINDS
from tests.faults.streams import CHAT, Yard, asking, engine, posted, yard
from tests.harness import until

PER_STREAM = 256 * 2**10  # bytes that one program may keep of one stream
STILL = 0.3  # seconds in which nothing moves any more


@pytest.fixture(scope="module")
async def it(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    folder = tmp_path_factory.mktemp("slow")
    async with yard(folder, engine(folder, "warm"), "warm") as it:
        yield it


def in_the_kernel(it: Yard) -> int:
    """Bytes in the buffers of all sockets between the engine and its clients: sent and not yet
    arrived, or arrived and not yet read."""
    ports = {it.noted("warm", "started")[0]["port"]}
    ports |= {httpx.URL(server.url).port for server in (it.pair.sidecar, it.pair.router)}
    total = 0
    with open("/proc/net/tcp") as table:
        for line in table.readlines()[1:]:
            _, local, remote, _, queues, *_ = line.split()
            if {int(end.partition(":")[2], 16) for end in (local, remote)} & ports:
                total += sum(int(queue, 16) for queue in queues.split(":"))
    return total


async def held_up(it: Yard) -> int:
    """Wait until nothing moves any more; return what the kernel holds."""
    last, since = -1, time.monotonic()

    def still() -> bool:
        nonlocal last, since
        if (now := in_the_kernel(it)) != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since > STILL

    await until(still)
    return last


async def test_f48_of_a_stream_that_nobody_takes_each_program_keeps_256_kib_at_most(
    it: Yard,
) -> None:
    reader, writer = await posted(it.pair.router.url, asking("warm", bad_sse="endless"))
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()
    await until(lambda: in_the_kernel(it) > 2**20)
    await held_up(it)
    process = psutil.Process(it.noted("warm", "started")[0]["pid"])
    process.suspend()  # or it would write more in the moment when the others let go
    try:
        kernel = await held_up(it)
        writer.transport.abort()
        await it.idle("warm")
    finally:
        process.resume()
    gone = await until(lambda: it.noted("warm", "gone"))
    taken = len(await reader.read())  # by this test's own loop, before it paused
    kept = gone[-1]["bytes"] - kernel - taken
    assert kept <= 2 * PER_STREAM
    await it.idle("warm")


async def test_f48_others_do_not_notice_streams_that_nobody_takes(it: Yard) -> None:
    stuck = [await posted(it.pair.router.url, asking("warm", bad_sse="endless")) for _ in range(8)]
    for reader, writer in stuck:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()
    await held_up(it)
    for _ in range(4):
        assert (await ask(it.http, chat("warm"))).done
    for _, writer in stuck:
        writer.close()
    await it.idle("warm")


async def test_f48_who_reads_on_after_a_while_has_missed_nothing(it: Yard) -> None:
    body = asking("warm", bad_sse="endless")
    async with it.http.stream("POST", CHAT, json=body) as response:
        await held_up(it)
        received = await first(response, 8 * 2**20)
    event = next(iter(KINDS["endless"].said))
    whole, rest = divmod(len(received), len(event))
    assert received == event * whole + event[:rest]
    await it.idle("warm")


async def first(response: httpx.Response, size: int) -> bytes:
    received = bytearray()
    async for chunk in response.aiter_raw():
        received += chunk
        if len(received) >= size:
            break
    return bytes(received)
