"""The proxy that breaks connections does just what it was told to, and nothing else."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from tests.fakes.chaos import Chaos
from tests.harness import until

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Echo:
    """Sends back what it gets; `reads` is each piece as it came."""

    def __init__(self) -> None:
        self.reads: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(2**20):
                self.reads.append(data)
                writer.write(data)
            writer.write(b"that was all")
        writer.close()


@pytest.fixture
async def echo() -> Echo:
    return Echo()


@pytest.fixture
async def chaos(echo: Echo) -> AsyncIterator[Chaos]:
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Chaos(f"http://127.0.0.1:{port}") as chaos:
        yield chaos
    server.close()
    await server.wait_closed()


@asynccontextmanager
async def connected(chaos: Chaos) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(chaos.url.rpartition(":")[2]))
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_it_changes_nothing_that_it_was_not_told_to(chaos: Chaos) -> None:
    said = bytes(range(256)) * 4096
    async with connected(chaos) as (reader, writer):
        writer.write(said)
        assert await reader.readexactly(len(said)) == said
        writer.write_eof()
        assert await reader.read() == b"that was all"
    await until(lambda: chaos.connections == 0)


async def test_it_slices(chaos: Chaos, echo: Echo) -> None:
    chaos.pieces, chaos.latency = 1, 0.001  # what is written too soon arrives together
    async with connected(chaos) as (reader, writer):
        writer.write(b"abcdef")
        assert await reader.readexactly(6) == b"abcdef"
    assert len(echo.reads) > 1
    assert b"".join(echo.reads) == b"abcdef"


@pytest.mark.parametrize(
    "slow",
    [lambda chaos: setattr(chaos, "latency", 0.1), lambda chaos: setattr(chaos, "bandwidth", 1000)],
)
async def test_it_is_as_slow_as_it_was_told_to(chaos: Chaos, slow: Callable[[Chaos], None]) -> None:
    slow(chaos)
    async with connected(chaos) as (reader, writer):
        began = time.monotonic()
        writer.write(b"x" * 100)
        await reader.readexactly(100)
        assert time.monotonic() - began >= 0.2  # there and back


async def test_it_resets_every_connection_and_takes_new_ones(chaos: Chaos) -> None:
    async with connected(chaos) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        chaos.reset()
        with pytest.raises(ConnectionResetError):
            await reader.read()
    async with connected(chaos) as (reader, writer):
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"


async def test_half_closed_the_server_has_heard_all_and_the_client_still_listens(
    chaos: Chaos,
) -> None:
    async with connected(chaos) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        chaos.half_close()
        assert await reader.read() == b"that was all"


async def test_while_it_is_down_nobody_is_there(chaos: Chaos) -> None:
    async with connected(chaos) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        async with chaos.down():
            assert await reader.read() == b""
            with pytest.raises(ConnectionRefusedError):
                async with connected(chaos):
                    pass
    async with connected(chaos) as (reader, writer):
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"


async def test_where_its_target_is_away_a_connection_is_reset() -> None:
    async with Chaos("http://127.0.0.1:9") as chaos, connected(chaos) as (reader, _):
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def test_parted_nothing_goes_through_and_healed_all_of_it_arrives(chaos: Chaos) -> None:
    async with connected(chaos) as (reader, writer), connected(chaos) as (other, later):
        writer.write(b"a")
        assert await reader.readexactly(1) == b"a"
        chaos.part()
        writer.write(b"b")
        async with connected(chaos) as (newcomer, asks):
            asks.write(b"c")
            for silent in (reader, newcomer):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(silent.readexactly(1), 0.1)
            chaos.heal()
            assert await reader.readexactly(1) == b"b"
            assert await newcomer.readexactly(1) == b"c"
        later.write(b"d")
        assert await other.readexactly(1) == b"d"


async def test_parted_one_way_the_target_hears_and_its_answer_does_not_come(
    chaos: Chaos, echo: Echo
) -> None:
    async with connected(chaos) as (reader, writer):
        chaos.part(inward=False)
        writer.write(b"a")
        await until(lambda: echo.reads == [b"a"])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.1)
        chaos.heal()
        assert await reader.readexactly(1) == b"a"


async def test_an_end_during_a_partition_is_heard_after_it(chaos: Chaos, echo: Echo) -> None:
    async with connected(chaos) as (_, writer):
        writer.write(b"a")
        await until(lambda: echo.reads == [b"a"])
        chaos.part()
    assert chaos.connections == 1
    chaos.heal()
    await until(lambda: chaos.connections == 0)


async def test_it_refuses_those_who_connect_and_keeps_those_who_are_connected(chaos: Chaos) -> None:
    async with connected(chaos) as (reader, writer):
        writer.write(b"a")
        assert await reader.readexactly(1) == b"a"
        chaos.refuses = True
        async with connected(chaos) as (refused, _):
            with pytest.raises(ConnectionResetError):
                await refused.read()
        writer.write(b"b")
        assert await reader.readexactly(1) == b"b"
