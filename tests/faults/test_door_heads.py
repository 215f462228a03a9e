"""F51, F54, F58: raw requests at the doors of both programs: what is answered, and what closes.

After each one a second request is sent on the same connection. Where the first is refused, that
one is never answered: whoever reads a request in another way than we do cannot hide one in it.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.faults.doors import Caller, call, status_in, statuses
from tests.harness import router, sidecar

PROGRAMS = ("router", "sidecar")
SECOND = b"GET /healthz HTTP/1.1\r\nHost: second\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Row:
    status: int
    closes: bool
    sent: bytes


def get(*lines: bytes, target: bytes = b"/healthz") -> bytes:
    """A good one, but for these lines."""
    return b"\r\n".join([b"GET %b HTTP/1.1" % target, b"Host: a", *lines, b"", b""])


def post(*lines: bytes, body: bytes = b"") -> bytes:
    """To what does not take it: 405 if it is read at all."""
    return b"\r\n".join([b"POST /healthz HTTP/1.1", b"Host: a", *lines, b"", body])


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


def served(sent: bytes, status: int = 200) -> Row:
    return Row(status, False, sent)


def last(sent: bytes, status: int = 200) -> Row:
    """Served, and the connection closed."""
    return Row(status, True, sent)


def refused(sent: bytes, status: int = 400) -> Row:
    return Row(status, True, sent)


LENGTH = b"Content-Length: 4"
CHUNKED = b"Transfer-Encoding: chunked"
BODY, CHUNKS = b"abcd", b"4\r\nabcd\r\n0\r\n\r\n"

MATRIX = {
    # What is served.
    "a request": served(get()),
    "with a body": served(post(LENGTH, body=BODY), 405),
    "in chunks": served(chunked(CHUNKS), 405),
    "in chunks, with an extension": served(chunked(b"4;a=b\r\nabcd\r\n0\r\n\r\n"), 405),
    "in chunks, with a trailer": served(chunked(b"4\r\nabcd\r\n0\r\nHost: b\r\n\r\n"), 405),
    "chunks in capitals": served(post(b"Transfer-Encoding: CHUNKED", body=CHUNKS), 405),
    "a body of a GET": served(get(LENGTH) + BODY),
    "empty lines before it": served(b"\r\n\r\n" + get()),
    "a host with a port": served(b"GET /healthz HTTP/1.1\r\nHost: a.b-c:80\r\n\r\n"),
    "a host in IPv6": served(b"GET /healthz HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"),
    "latin-1 in a value": served(get(b"X-Name: \xe9")),
    "an absolute target": served(get(target=b"http://A/healthz")),
    "HEAD": served(b"HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
    "OPTIONS": served(b"OPTIONS /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    "an upgrade to h2c": served(
        get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AA")
    ),
    "an upgrade with a body": served(
        post(b"Connection: Upgrade", b"Upgrade: h2c", LENGTH, body=BODY), 405
    ),
    "an upgrade to a WebSocket": served(get(b"Connection: Upgrade", b"Upgrade: websocket")),
    "a header named as hop-by-hop": served(get(b"Connection: Authorization", b"Authorization: x")),
    "an expectation that nobody knows": served(get(b"Expect: the-best")),
    # What is served and closes.
    "Connection: close": last(get(b"Connection: close")),
    "HTTP/1.0": last(b"GET /healthz HTTP/1.0\r\n\r\n"),
    "HTTP/1.0 that would stay": last(b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
    # Where a body ends.
    "a length and chunks": refused(post(LENGTH, CHUNKED, body=CHUNKS)),
    "chunks and a length": refused(post(CHUNKED, LENGTH, body=CHUNKS)),
    "two lengths": refused(post(LENGTH, b"Content-Length: 5", body=BODY)),
    "the same length twice": refused(post(LENGTH, LENGTH, body=BODY)),
    "a list of lengths": refused(post(b"Content-Length: 4, 4", body=BODY)),
    "a length with a sign": refused(post(b"Content-Length: +4", body=BODY)),
    "a length below zero": refused(post(b"Content-Length: -4", body=BODY)),
    "an empty length": refused(post(b"Content-Length:", body=BODY)),
    "a length in hex": refused(post(b"Content-Length: 0x4", body=BODY)),
    "a length beyond 64 bits": refused(post(b"Content-Length: 99999999999999999999", body=BODY)),
    "a length of thousands of digits": refused(
        post(b"Content-Length: " + b"4".zfill(5000), body=BODY)
    ),
    "an unknown coding": refused(post(b"Transfer-Encoding: xchunked", body=CHUNKS)),
    "a coding and chunks": refused(post(b"Transfer-Encoding: gzip, chunked", body=CHUNKS)),
    "chunks and a coding": refused(post(b"Transfer-Encoding: chunked, gzip", body=CHUNKS)),
    "chunks of chunks": refused(post(b"Transfer-Encoding: chunked, chunked", body=CHUNKS)),
    "two codings": refused(post(CHUNKED, b"Transfer-Encoding: identity", body=CHUNKS)),
    "no coding": refused(post(b"Transfer-Encoding: identity", body=CHUNKS)),
    "a coding in quotes": refused(post(b'Transfer-Encoding: "chunked"', body=CHUNKS)),
    "a coding after a vertical tab": refused(post(b"Transfer-Encoding: \x0bchunked", body=CHUNKS)),
    "a coding on a folded line": refused(post(b"Transfer-Encoding:", b" chunked", body=CHUNKS)),
    "chunks in HTTP/1.0": refused(
        b"POST /healthz HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS
    ),
    "a chunk that is no number": refused(chunked(b"0x4\r\nabcd\r\n0\r\n\r\n")),
    "a chunk below zero": refused(chunked(b"-4\r\nabcd\r\n0\r\n\r\n")),
    "a chunk beyond 64 bits": refused(chunked(b"10000000000000004\r\nabcd\r\n0\r\n\r\n")),
    "a chunk longer than it says": refused(chunked(b"3\r\nabcd\r\n0\r\n\r\n")),
    "a space after the size of a chunk": refused(chunked(b"4 \r\nabcd\r\n0\r\n\r\n")),
    "a bare LF after the size of a chunk": refused(chunked(b"4\nabcd\r\n0\r\n\r\n")),
    "a bare LF in an extension": refused(chunked(b"4;a\nabcd\r\n0\r\n\r\n")),
    "a length as a trailer": refused(chunked(b"4\r\nabcd\r\n0\r\nContent-Length: 4\r\n\r\n")),
    # Lines.
    "bare LFs": refused(b"GET /healthz HTTP/1.1\nHost: a\n\n"),
    "one bare LF": refused(b"GET /healthz HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"),
    "a bare CR": refused(b"GET /healthz HTTP/1.1\r\nHost: a\rX: b\r\n\r\n"),
    "a folded line": refused(get(b"X: a", b" b")),
    "a line that begins with a space": refused(b"GET /healthz HTTP/1.1\r\n Host: a\r\n\r\n"),
    "a space before the colon": refused(get(b"X : b")),
    "a length with a space before the colon": refused(post(b"Content-Length : 4", body=BODY)),
    "no colon": refused(get(b"X")),
    "no name": refused(get(b": b")),
    "NUL in a name": refused(get(b"X\0: b")),
    "NUL in a value": refused(get(b"X: \0")),
    "a control character in a value": refused(get(b"X: \x1b[31m")),
    "DEL in a value": refused(get(b"X: \x7f")),
    "latin-1 in a name": refused(get(b"X\xe9: b")),
    # Hosts and targets.
    "no host": refused(b"GET /healthz HTTP/1.1\r\n\r\n"),
    "two hosts": refused(get(b"Host: b")),
    "the same host twice": refused(get(b"Host: a")),
    "an empty host": refused(b"GET /healthz HTTP/1.1\r\nHost:\r\n\r\n"),
    "a host with a path": refused(b"GET /healthz HTTP/1.1\r\nHost: a/?\r\n\r\n"),
    "a host with a user": refused(b"GET /healthz HTTP/1.1\r\nHost: b@a\r\n\r\n"),
    "two hosts in HTTP/1.0": refused(b"GET /healthz HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    "an absolute target at another host": refused(get(target=b"http://b/healthz")),
    "an absolute target with a user": refused(get(target=b"http://b@a/healthz")),
    "an absolute target of another kind": refused(get(target=b"ftp://a/healthz")),
    "a fragment": refused(get(target=b"/healthz#x")),
    "a target that is no path": refused(get(target=b"healthz")),
    "a space in the target": refused(get(target=b"/health z")),
    "NUL in the target": refused(get(target=b"/healthz\0")),
    "a tab in the target": refused(get(target=b"/healthz\t")),
    "latin-1 in the target": refused(get(target=b"/healthz\xe9")),
    # Methods and versions.
    "CONNECT": refused(b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    "TRACE": refused(b"TRACE /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    "OPTIONS of everything": refused(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    "a method that is none": refused(b"GRAB /healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a method in small letters": refused(b"get /healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
    "h2c without asking": refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "HTTP/2.0": refused(b"GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n"),
    "HTTP/0.9": refused(b"GET /healthz HTTP/0.9\r\nHost: a\r\n\r\n"),
    "HTTP/1.2": refused(b"GET /healthz HTTP/1.2\r\nHost: a\r\n\r\n"),
    "TLS": refused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    # Sizes.
    "a long URL": served(get(target=b"/healthz?" + b"x" * (8 * 1024 - 9))),
    "a URL that is too long": refused(get(target=b"/healthz?" + b"x" * (8 * 1024 - 8)), 414),
    "a URL of 100 KB": refused(get(target=b"/healthz?" + b"x" * 100_000), 414),
    "a hundred headers": served(get(*(b"X: a" for _ in range(99)))),
    "a hundred and one headers": refused(get(*(b"X: a" for _ in range(100))), 431),
    "ten thousand headers": refused(get(*(b"X: a" for _ in range(10_000))), 431),
    "a large header": served(get(b"X: " + b"x" * (31 * 1024))),
    "a header of 64 KiB": refused(get(b"X: " + b"x" * (64 * 1024)), 431),
}


@pytest.fixture(scope="module")
async def urls(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, str]]:
    """Nobody has keys here, so that only what a request looks like decides."""
    models = "models: {one: {engine: command, command: [sleep, '9']}}"
    boxes = 'sidecars: [{url: "http://127.0.0.1:1"}]'
    async with (
        sidecar(tmp_path_factory.mktemp("sidecar"), models) as one,
        router(tmp_path_factory.mktemp("router"), boxes) as other,
    ):
        yield {"sidecar": one.url, "router": other.url}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("name", MATRIX)
async def test_f54_a_request_is_answered_as_the_table_says_and_hides_no_other(
    urls: dict[str, str], program: str, name: str
) -> None:
    row = MATRIX[name]
    async with call(urls[program]) as it:
        it.say(row.sent + SECOND)
        said = await it.rest()
    assert statuses(said) == ([row.status] if row.closes else [row.status, 200])
    if row.status in (400, 414, 431):
        assert b'"type": "invalid_request_error"' in said
        assert b"\r\nconnection: close\r\n" in said
        assert b"\r\nx-should-retry: false\r\n" in said


SHORT = [name for name, row in MATRIX.items() if row.status == 200 and len(row.sent) < 500]


@pytest.mark.parametrize("name", SHORT)
async def test_f54_a_head_is_the_same_however_it_is_cut(urls: dict[str, str], name: str) -> None:
    async with call(urls["router"]) as it:
        for byte in MATRIX[name].sent.removesuffix(BODY):
            it.say(bytes([byte]))
            await it.writer.drain()
        assert status_in(await it.head()) == 200


async def test_f54_an_answer_repeats_nothing_of_what_was_refused(urls: dict[str, str]) -> None:
    for sent in (get(b"Evil : evil"), get(target=b"http://evil/"), get(b"Host: evil")):
        async with call(urls["router"]) as it:
            it.say(sent)
            assert b"evil" not in (await it.rest()).lower()


@pytest.mark.parametrize("program", PROGRAMS)
async def test_f58_head_has_no_body_and_options_tells_nothing(
    urls: dict[str, str], program: str
) -> None:
    async with call(urls[program]) as it:
        it.say(b"HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n" + SECOND)
        head, rest = await it.head(), await it.rest()
        assert b"\r\ncontent-length: " in head
        assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
    async with call(urls[program]) as it:
        origin = b"Origin: http://evil\r\nAccess-Control-Request-Method: POST"
        it.say(b"OPTIONS /healthz HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % origin + SECOND)
        said = await it.rest()
        assert statuses(said) == [405, 200]
        assert b"access-control" not in said.lower()


async def test_f58_pipelined_requests_are_answered_in_their_order(urls: dict[str, str]) -> None:
    paths = [b"/healthz", b"/nowhere", b"/slots", b"/healthz", b"/nowhere"]
    async with call(urls["router"]) as it:
        it.say(b"".join(get(target=path) for path in paths) + SECOND)
        assert statuses(await it.rest()) == [200, 404, 400, 200, 404, 200]


async def test_f58_too_many_pipelined_requests_are_left_to_be_sent_again(
    urls: dict[str, str],
) -> None:
    """The first is answered, 16 wait, and the last of those says that it is the last."""
    async with call(urls["router"]) as it:
        it.say(get() * 1000)
        said = await it.rest()
    assert statuses(said) == [200] * 17
    assert said.count(b"connection: close") == 1


async def test_f58_a_connection_is_used_again_after_an_error_of_an_application(
    urls: dict[str, str],
) -> None:
    async with call(urls["router"]) as it:
        for path, status in ((b"/nowhere", 404), (b"/healthz", 200), (b"/slots", 400)):
            it.say(get(target=path))
            assert (await it.answer())[0] == status


async def test_f58_a_refusal_waits_for_the_answers_before_it(urls: dict[str, str]) -> None:
    async with call(urls["router"]) as it:
        it.say(get() * 3 + get(b"Host: b") + SECOND)
        assert statuses(await it.rest()) == [200, 200, 200, 400]


async def everything(it: Caller, sent: bytes) -> bytes:
    it.say(sent)
    return await it.rest()


async def test_f51_a_head_is_refused_before_the_rest_of_it_is_read(urls: dict[str, str]) -> None:
    for begun, status in (
        (b"GET /" + b"x" * 9000, 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 102, 431),
    ):
        async with call(urls["router"]) as it:
            assert statuses(await everything(it, begun)) == [status]


async def test_f51_framing_without_an_end_is_refused_behind_a_body_of_any_size(
    urls: dict[str, str],
) -> None:
    """Trailers without an end, and extensions of chunks."""
    begun = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    trailer = b"0\r\n" + b"X: a\r\n" * 100_000
    large = b"%x\r\n%b\r\n" % (2**20, b"x" * 2**20)
    for framing in (trailer, b"1;" + b"x" * 1_000_000, large + trailer):
        async with call(urls["router"]) as it:
            assert statuses(await everything(it, begun + framing)) == [400]
