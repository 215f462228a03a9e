"""Which head of a request is taken, and where it leads.

Rule 1: what two readers could read in two ways is refused, never guessed: nothing that is refused
here or by the parser reaches an application, and no message repeats what the client sent.
Rule 2: this file does no I/O, reads no clock and never awaits. What the parser (llhttp) refuses by
itself stands in tests/faults/test_door_heads.py, and not here: a bare LF, folded lines, control
characters, a space before the colon, two lengths, a length beside chunks, sizes that are none.
"""

from __future__ import annotations

import re

from shared.errors import HeadTooLarge, InvalidRequest, NotAllowed, SwapyardError, UrlTooLong

HEAD = 32 * 1024  # bytes, in all
HEADERS = 100
URL = 8 * 1024  # bytes
LENGTH = 20  # digits: as many as 64 bits have, and the parser checks the number, but for zeros

NO_HTTP = InvalidRequest("The request is not valid HTTP/1.1.", code="invalid_request")
FLOOD = InvalidRequest(
    "The body of the request has too much framing between its chunks, or behind them.",
    code="invalid_request",
)

Headers = list[tuple[bytes, bytes]]

# As clients write them, to how we do. Those who wait share these, and none is made anew.
NAMES = {
    spelt: name
    for name in (
        *(b"accept", b"accept-encoding", b"accept-language", b"api-key", b"authorization"),
        *(b"connection", b"content-length", b"content-type", b"expect", b"host"),
        *(b"transfer-encoding", b"user-agent", b"x-api-key", b"x-request-id"),
        *(b"traceparent", b"tracestate", b"x-swapyard-progress", b"x-swapyard-router"),
    )
    for spelt in (name, name.title())
}

# A name, an IPv4 address or an IPv6 address in brackets, and a port: RFC 3986, section 3.2.2,
# without the marks that no real name has. `x/?` would lead whoever builds an URL with it astray.
_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\])(?::[0-9]{0,5})?")
_DECIDES = frozenset({b"host", b"transfer-encoding", b"content-length"})
# RFC 9112, section 3.2.2: a client may write to a server as it would to a proxy.
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)(.*)", re.DOTALL)


def refusal(method: bytes, version: str, target: bytes, headers: Headers) -> SwapyardError | None:
    """Why this head is not taken; None if it is. Names of headers are in lower case."""
    if error := too_large(len(target), len(headers), size_of(target, headers)):
        return error
    if method in (b"CONNECT", b"TRACE"):
        return NotAllowed("No path takes this method.")
    if version not in ("1.1", "1.0"):
        return _bad("The request is not in HTTP/1.1 or HTTP/1.0.")
    host: bytes | None = None
    for name, value in headers:
        if name in _DECIDES:
            if name == b"host":
                if host is not None:
                    return _bad("The request has more than one Host.")
                host = value
            elif name == b"content-length":
                if len(value) > LENGTH:
                    return _bad("The Content-Length of the request is none.")
            elif version == "1.0" or value.lower() != b"chunked":
                return _bad(
                    "The Transfer-Encoding of a request may only be `chunked`, in HTTP/1.1."
                )
    return _bad_host(version, host) or _bad_target(target, host)


def too_large(url: int, headers: int, size: int) -> SwapyardError | None:
    """Also of a head that is not whole yet."""
    if url > URL:
        return UrlTooLong(URL)
    if headers > HEADERS or size > HEAD:
        return HeadTooLarge(HEADERS, HEAD)
    return None


def size_of(target: bytes, headers: Headers) -> int:
    """Of a whole head, but for its method and version."""
    return len(target) + sum(len(name) + len(value) + 4 for name, value in headers)


def path_and_query(target: bytes) -> tuple[bytes, bytes]:
    """Of a target that is taken."""
    if not target.startswith(b"/"):
        absolute = _ABSOLUTE.fullmatch(target)
        assert absolute is not None
        target = absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]
    path, _, query = target.partition(b"?")
    return path, query


def without_upgrade(method: bytes, version: str, target: bytes, headers: Headers) -> bytes:
    """The same head, for a parser to read again."""
    line = b"%b %b HTTP/%b" % (method, target, version.encode())
    lines = [b"%b: %b" % header for header in headers if header[0] != b"upgrade"]
    return b"\r\n".join([line, *lines, b"", b""])


def _bad_host(version: str, host: bytes | None) -> SwapyardError | None:
    if host is None:
        return None if version == "1.0" else _bad("The request has no Host.")
    return None if _HOST.fullmatch(host) else _bad("The Host of the request is none.")


def _bad_target(target: bytes, host: bytes | None) -> SwapyardError | None:
    if b"#" in target:
        return _bad("The target of the request has a fragment.")
    if target.startswith(b"/"):
        return None
    if target == b"*":
        return NotAllowed("The server as a whole takes no method.")
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or host is None or absolute[1].lower() != host.lower():
        return _bad("The target of the request is none here.")
    return None


def _bad(said: str) -> InvalidRequest:
    return InvalidRequest(said, code="invalid_request")
