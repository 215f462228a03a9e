"""Answers that no engine should give, byte by byte: what `--bad-sse` and its neighbours choose.

Rule: a way to misbehave is a row of KINDS, and how it goes over the wire is a Manner. A request may
choose both for itself, in its body (`{"fake": {"bad_sse": "eof", "framing": "close"}}`), so that
one engine can do them all. Standard library only, and nothing that is slow to import.
"""

import argparse
import asyncio
import itertools
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, NamedTuple

BLOCK = 64 * 2**10  # bytes of a giant event in one write


class Manner(NamedTuple):
    """How an answer goes over the wire. These are the switches, and the fields of `fake`."""

    bad_sse: str = ""  # one of KINDS
    line_bytes: int = 0  # the answer is one event with that many bytes, then [DONE]
    framing: str = "chunked"  # length: by Content-Length; close: by the connection's end alone
    cuts: tuple[int, ...] = ()  # where the body is cut, instead of once for each piece
    trickle: bool = False  # each byte is a write of its own, those of the framing too
    gzip: bool = False  # although nobody asked for it


class Script(NamedTuple):
    said: Iterable[bytes]  # the body, one write for each piece
    end: str = "whole"  # eof, reset: how the connection ends before the answer does
    status: int = 200
    type: str = "text/event-stream"
    coding: str = ""
    tail: bytes = b""  # written without any framing, where the answer's end should be
    head: bytes | None = None  # instead of the one that fits the rest


def token(text: str, end: str = "\n\n") -> bytes:
    said = '{"choices": [{"index": 0, "delta": {"content": "%s"}, "finish_reason": null}]}'
    return f"data: {said % text}{end}".encode()


DONE = b"data: [DONE]\n\n"
TOKENS = (token("one"), token(" two"), token(" three"))
HALF = b'data: {"choices": [{"index": 0, "del'
PAGE = b"<!doctype html><title>502</title><h1>Bad Gateway</h1>"

EVIL = (
    'x\n\ndata: {"injected": 1}\n\nevent: injected\rdata: 1\r\r\x00\u2028id: 9\x85data: [DONE]\n\n'
)

# Lines end in CR, LF and CRLF only. The others are ends of lines to Python's `str.splitlines`, the
# last one is a family of emoji: three of them, joined.
ODD = (
    "\u2028 \u2029 \x85 \x0b \x0c \x1c \ufeff \U0001f600 \U0001f469\u200d\U0001f469\u200d\U0001f467"
)
CORPUS = b"".join(
    (
        b"\xef\xbb\xbf" + token(ODD),
        token("crlf", "\r\n\r\n") + token("cr", "\r\r") + token("mixed", "\r\n\n"),
        b": a comment\nevent: any\nid: 7\nretry: 10\ndata\ndata: x\xff\xfe\x00y\n\nno colon\n\n",
        DONE,
    )
)

KINDS = {
    # It ends before its end.
    "eof": Script(TOKENS, "eof"),
    "eof-in-event": Script((*TOKENS, HALF), "eof"),
    "eof-in-chunk": Script(TOKENS, "eof", tail=b"40\r\ndata: {"),
    "eof-no-body": Script((), "eof"),
    "eof-in-head": Script((), "eof", head=b"HTTP/1.1 200 OK\r\nContent-Ty"),
    "eof-no-head": Script((), "eof", head=b""),
    "reset": Script(TOKENS, "reset"),
    "reset-in-event": Script((*TOKENS, HALF), "reset"),
    "reset-no-body": Script((), "reset"),
    "reset-no-head": Script((), "reset", head=b""),
    # It is no HTTP, or not from there on.
    "bad-chunk": Script(TOKENS, "eof", tail=b"zz\r\n"),
    "no-http": Script((), "eof", head=b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "bad-status": Script((), "eof", head=b"HTTP/1.1 many OK\r\n\r\n"),
    # It has little to say.
    "empty": Script((DONE,)),
    "nothing": Script(()),
    # It is an odd event stream, and whole.
    "no-colon": Script((b"hello\n\ndata\n\n", DONE)),
    "bare-cr": Script((token("one", "\r\r"), b"data: [DONE]\r\r")),
    "crlf-cut": Script((b"data: 1\r", b"\n\r", b"\n", b"data: [DONE]\r\n\r", b"\n")),
    "bom": Script((b"\xef\xbb\xbf" + TOKENS[0], DONE)),
    "nul": Script((b"data: a\x00b\nid: \x00\n\n", DONE)),
    "invalid-utf8": Script((b"data: \xff\xfe\xc3\x28\n\n", DONE)),
    "not-json": Script((b"data: {half\n\ndata: 1\n\n", DONE)),
    "half-event": Script((*TOKENS, HALF)),
    "only-comments": Script((b": one\n", b":\n\n")),
    "corpus": Script((CORPUS,)),
    "corpora": Script((CORPUS * len(CORPUS),)),
    # It is no event stream.
    "html": Script((PAGE,), type="text/html"),
    "html-502": Script((PAGE,), status=502, type="text/html"),
    "half-json": Script((b'{"choices": [',), "eof", type="application/json"),
    "wrong-coding": Script((*TOKENS, DONE), coding="gzip"),
    # It speaks of things that are the router's to say.
    "evil-tokens": Script((token(json.dumps(EVIL)[1:-1]), DONE)),
    "evil-error": Script(
        (json.dumps({"error": {"message": EVIL, "code": EVIL}}).encode(),),
        status=500,
        type="application/json",
    ),
    # It goes on for ever.
    "endless": Script(itertools.repeat(token("x" * 4000))),
}


def add_switches(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--bad-sse", default="", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    add("--line-bytes", type=int, default=0, help="the answer is one event with that many bytes")
    add("--framing", default="chunked", choices=["chunked", "length", "close"])
    add("--cuts", type=int, nargs="*", default=(), help="offsets at which the body is cut")
    add("--trickle", action="store_true", help="each byte is a write of its own")
    add("--gzip", action="store_true", help="compressed, though nobody asked for it")
    add("--hang-at", default="", metavar="prefill|token:N", help="silent from there on, for ever")
    add(
        "--zombie-health",
        default="",
        metavar="FILE",
        help="while it is there, only GETs are answered",
    )


def manner_of(switches: argparse.Namespace, body: dict[str, Any]) -> Manner | None:
    """None: the engine is to behave."""
    wish = body.get("fake", {})
    said = {name: wish.get(name, getattr(switches, name)) for name in Manner._fields}
    manner = Manner(**said)
    return manner if manner.bad_sse or manner.line_bytes or manner.gzip else None


def hangs_at(switches: argparse.Namespace, body: dict[str, Any]) -> int | None:
    """After how many tokens it says no more; None: it ends its answer."""
    where = str(body.get("fake", {}).get("hang_at", switches.hang_at))
    if where == "prefill" or os.path.exists(switches.zombie_health):
        return 0
    return int(where.removeprefix("token:")) if where else None


def body_of(manner: Manner) -> bytes:
    """What reaches a client that gets it all, before any compression."""
    return b"".join(script_of(manner).said)


def script_of(manner: Manner) -> Script:
    if manner.line_bytes:
        return Script((*giant(manner.line_bytes), DONE))
    return KINDS[manner.bad_sse] if manner.bad_sse else Script((*TOKENS, DONE))


def giant(size: int) -> Iterator[bytes]:
    """One event with so many bytes, its end included."""
    before, after = token("|")[:-2].split(b"|")
    after += b"\n\n"
    blocks, rest = divmod(size - len(before) - len(after), BLOCK)
    return itertools.chain([before], itertools.repeat(b"x" * BLOCK, blocks), [b"x" * rest + after])


async def play(manner: Manner, writer: asyncio.StreamWriter) -> AsyncIterator[int]:
    """Tells after each write how much of the body the kernel has taken."""
    script = script_of(manner)
    said, coding = script.said, script.coding
    if manner.cuts:
        said = cut(b"".join(said), manner.cuts)
    if manner.gzip:
        said, coding = compressed(said), "gzip"
    if manner.framing == "length":
        said = list(said)
    await write(writer, manner, head_of(script, manner, said, coding))
    taken = 0
    for piece in said:
        await write(writer, manner, framed(piece) if manner.framing == "chunked" else piece)
        taken += len(piece)
        yield taken
    if script.end == "whole" and manner.framing == "chunked":
        await write(writer, manner, b"0\r\n\r\n")
    await write(writer, manner, script.tail)
    end(script.end, manner, writer)


def head_of(script: Script, manner: Manner, said: Iterable[bytes], coding: str) -> bytes:
    if script.head is not None:
        return script.head
    lines = [f"HTTP/1.1 {script.status} Fake", f"Content-Type: {script.type}"]
    if coding:
        lines.append(f"Content-Encoding: {coding}")
    if manner.framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
    elif manner.framing == "length":
        missing = 0 if script.end == "whole" else 1000
        lines.append(f"Content-Length: {sum(map(len, said)) + missing}")
    else:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode()


def framed(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def cut(body: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    return (body[a:b] for a, b in itertools.pairwise([0, *cuts, len(body)]) if a < b)


def compressed(said: Iterable[bytes]) -> Iterator[bytes]:
    import zlib  # hardly any engine of a test compresses

    deflate = zlib.compressobj(wbits=31)  # 16 + 15: in gzip's wrapping
    for piece in said:
        yield deflate.compress(piece) + deflate.flush(zlib.Z_SYNC_FLUSH)
    yield deflate.flush()


async def write(writer: asyncio.StreamWriter, manner: Manner, data: bytes) -> None:
    for piece in cut(data, range(1, len(data))) if manner.trickle else [data]:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)  # drain() of what the kernel takes at once lets nobody else run


def end(how: str, manner: Manner, writer: asyncio.StreamWriter) -> None:
    if how == "reset":
        connection: socket.socket = writer.get_extra_info("socket")
        linger = struct.pack("ii", 1, 0)  # on, for 0 s: closing it is a reset
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
    elif how == "eof" or manner.framing == "close":
        writer.close()
