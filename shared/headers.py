"""Headers as ASGI has them: pairs of bytes, names in lower case. What passes is listed here.

Rule: a request that goes on and an answer that comes back are rebuilt from these lists, never
copied, so nothing that is meant for one connection can reach the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Headers = list[tuple[bytes, bytes]]

# What of a request goes on to an engine. Everything else (keys, cookies, hop-by-hop) stays here.
REQUEST_HEADERS = frozenset(
    {b"content-type", b"accept", b"user-agent", b"x-request-id", b"traceparent", b"tracestate"}
)
# What of an answer goes back.
RESPONSE_HEADERS = frozenset(
    {
        b"content-type",
        b"content-length",
        b"content-encoding",
        b"content-disposition",
        b"cache-control",
        b"retry-after",
        b"x-should-retry",
    }
)

# From a router to a box: the answer is wanted in one piece, so it is silent until it is made.
WHOLE = b"x-swapyard-whole"

EVENT_STREAM: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx would keep the events until the stream's end
]


def only(headers: Iterable[tuple[bytes, bytes]], allowed: frozenset[bytes]) -> Headers:
    return [header for header in headers if header[0] in allowed]


def header(scope: Mapping[str, Any], name: bytes) -> str | None:
    """The first of a request's headers of that name."""
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found.decode("latin-1")
    return None


def is_events(headers: Headers) -> bool:
    """Whether an event can be put behind what this is the head of: not, if it is compressed."""
    said = dict(headers)
    plain = said.get(b"content-encoding", b"identity").lower() == b"identity"
    return plain and said.get(b"content-type", b"").lower().startswith(b"text/event-stream")


def unbuffered(headers: Headers) -> Headers:
    """As EVENT_STREAM has it, for the stream of an engine that does not say so."""
    names = {name for name, _ in headers}
    return [*headers, *(header for header in EVENT_STREAM if header[0] not in names)]


def without_length(headers: Headers) -> Headers:
    """For an answer whose end we may say ourselves."""
    return [header for header in headers if header[0] != b"content-length"]
