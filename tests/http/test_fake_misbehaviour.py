"""The fake engine misbehaves as it was told to: over a socket of the test's own, byte by byte."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.misbehaviour import (
    CORPUS,
    DONE,
    HALF,
    KINDS,
    TOKENS,
    Manner,
    body_of,
    framed,
)
from tests.harness import engine, free_port, until
from tests.http.test_fake_engine import at, listens, ready

ALL = b"".join(TOKENS)


@pytest.fixture(scope="module")
async def port(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[int]:
    """Of an engine that does what each request wishes."""
    port = free_port()
    folder = tmp_path_factory.mktemp("engine")
    async with engine(folder, port, "--journal", str(folder / "journal")):
        async with at(port) as http:
            await until(lambda: listens(port))
            await until(lambda: ready(http))
        yield port


async def wire(port: int, **manner: Any) -> bytes:
    """All that it sends until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"fake": manner}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nConnection: close\r\nContent-Length: {len(body)}"
    writer.write(head.encode() + b"\r\n\r\n" + body)
    try:
        return await reader.read()
    finally:
        writer.close()


async def after_head(port: int, **manner: Any) -> bytes:
    return (await wire(port, **manner)).partition(b"\r\n\r\n")[2]


async def test_it_closes_without_the_end_of_each_framing(port: int) -> None:
    chunks = b"".join(map(framed, TOKENS))
    assert await after_head(port, bad_sse="eof") == chunks
    assert await after_head(port, bad_sse="eof", framing="close") == ALL
    said = await wire(port, bad_sse="eof", framing="length")
    assert said.endswith(ALL)
    assert b"Content-Length: %d\r\n" % (len(ALL) + 1000) in said


async def test_it_ends_in_the_midst_of_whatever_it_was_told_to(port: int) -> None:
    assert (await after_head(port, bad_sse="eof-in-event")).endswith(framed(HALF))
    assert (await after_head(port, bad_sse="eof-in-chunk")).endswith(b"\r\n40\r\ndata: {")
    assert await wire(port, bad_sse="eof-in-head") == b"HTTP/1.1 200 OK\r\nContent-Ty"
    assert await wire(port, bad_sse="eof-no-head") == b""
    assert (await after_head(port, bad_sse="bad-chunk")).endswith(b"zz\r\n")


@pytest.mark.parametrize("kind", [kind for kind, script in KINDS.items() if script.end == "reset"])
async def test_it_resets_the_connection(port: int, kind: str) -> None:
    with pytest.raises(ConnectionResetError):
        await wire(port, bad_sse=kind)


WHOLE = [kind for kind, script in KINDS.items() if script.end == "whole" and kind != "endless"]


@pytest.mark.parametrize("kind", WHOLE)
async def test_what_is_whole_is_framed_as_it_was_told_to(port: int, kind: str) -> None:
    body = body_of(Manner(kind))
    chunks = b"".join(map(framed, KINDS[kind].said)) + b"0\r\n\r\n"
    assert await after_head(port, bad_sse=kind) == chunks
    said = await wire(port, bad_sse=kind, framing="length")
    assert said.endswith(b"Content-Length: %d\r\n\r\n" % len(body) + body)


@pytest.mark.parametrize("size", [200, 65536, 1_000_000])
async def test_a_giant_event_has_the_size_it_was_told_to(port: int, size: int) -> None:
    said = await after_head(port, line_bytes=size, framing="close")
    event, end, rest = said.partition(b"\n\n")
    assert len(event + end) == size
    assert rest == DONE
    json.loads(event.removeprefix(b"data: "))


async def test_it_cuts_where_it_was_told_to(port: int) -> None:
    said = await after_head(port, bad_sse="corpus", cuts=[1, 5])
    pieces = CORPUS[:1], CORPUS[1:5], CORPUS[5:]
    assert said == b"".join(map(framed, pieces)) + b"0\r\n\r\n"
    assert await after_head(port, bad_sse="corpus", trickle=True, framing="close") == CORPUS


async def test_it_compresses_unasked(port: int) -> None:
    said = await wire(port, gzip=True, framing="close")
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"\r\nContent-Encoding: gzip\r\n" in head
    assert gzip.decompress(body) == ALL + DONE


async def test_a_switch_makes_it_misbehave_to_everyone(tmp_path: Path) -> None:
    port = free_port()
    async with engine(tmp_path, port, "--bad-sse", "nothing", "--framing", "length"):
        async with at(port) as http:
            await until(lambda: ready(http))
        assert b"\r\nContent-Length: 0\r\n" in await wire(port)
