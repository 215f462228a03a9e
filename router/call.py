"""What one request asks for: the model, whether it streams, how it wants to be told.

Rule 1: everything that comes from outside is looked at here, and nothing else is believed.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

from router import keep_alive
from shared.errors import InvalidRequest, NotFound

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
BELIEVED = ("model", "stream", "keep_alive")  # the fields that are decided by


class Call(NamedTuple):  # one is made for each request, and frozen dataclasses are made slowly
    path: str  # below /v1/
    query: str  # as it came, without the question mark
    name: str  # of the model, as the client says it
    stream: bool
    body: bytes  # as it came, but for what is not the engine's to read
    keep_alive: float | None = None  # seconds; None: no wish


def read(path: str, query: str, body: bytes) -> Call:
    """Raises InvalidRequest, which names the field, or NotFound."""
    if not {"", ".", ".."}.isdisjoint(path.split("/")):  # it would lead out of /engines
        raise NotFound(f"/v1/{path}")
    if not path.isprintable() or "\\" in path:  # some read a NUL as its end, and this as a slash
        raise NotFound(f"/v1/{path}")
    said = _object(body)
    name = said.get("model")
    if not isinstance(name, str) or not name:
        raise InvalidRequest(
            "The body must name a model, as text.", code="model_required", param="model"
        )
    stream = said.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InvalidRequest(
            "stream must be true or false.", code="invalid_request", param="stream"
        )
    if "keep_alive" not in said:
        return Call(path, query, name, stream is True, body)
    wish = said["keep_alive"]
    kept = None if wish is None else keep_alive.seconds(wish)
    return Call(path, query, name, stream is True, _without(body, "keep_alive"), kept)


def is_sane_id(id: str | None) -> bool:
    """Whether a client's own request id may go into headers and logs."""
    return id is not None and REQUEST_ID.fullmatch(id) is not None


def with_model(body: bytes, name: str) -> bytes:
    """The body of a Call as it came, but for the value of its top-level `model`."""
    return _with(body, "model", lambda _: name)


def with_usage(body: bytes) -> bytes:
    """The body of a Call as it came, but that its stream ends with a count of tokens."""

    def asked(options: object) -> object:
        return {**(options if isinstance(options, dict) else {}), "include_usage": True}

    return _with(body, "stream_options", asked)


def _with(body: bytes, name: str, change: Callable[[object], object]) -> bytes:
    return _rewritten(body, lambda text: _with_field(text, name, change))


def _without(body: bytes, name: str) -> bytes:
    return _rewritten(body, lambda text: _without_field(text, name))


def _rewritten(body: bytes, rewrite: Callable[[str], str]) -> bytes:
    try:
        return rewrite(body.decode()).encode()
    except RecursionError:  # there may be less room on the stack now than when it was read
        raise _not_json() from None


class _Field(NamedTuple):
    name: str
    value: object
    begins: int  # where its name does
    value_begins: int
    ends: int  # behind its value


def _fields(text: str) -> Iterator[_Field]:
    """`text` is an object that is not empty."""
    decoder, at = json.JSONDecoder(), _skip_space(text, 0) + 1
    while text[at - 1] != "}":
        begins = _skip_space(text, at)
        name, at = decoder.raw_decode(text, begins)
        value_begins = _skip_space(text, _skip_space(text, at) + 1)  # behind the colon
        value, ends = decoder.raw_decode(text, value_begins)
        yield _Field(name, value, begins, value_begins, ends)
        at = _skip_space(text, ends) + 1  # behind the comma, or the end


def _with_field(text: str, name: str, change: Callable[[object], object]) -> str:
    """A field that is not there is put first."""
    for field in _fields(text):
        if field.name == name:
            value = json.dumps(change(field.value))
            return f"{text[: field.value_begins]}{value}{text[field.ends :]}"
    first = _skip_space(text, 0) + 1
    return f"{text[:first]}{json.dumps(name)}: {json.dumps(change(None))}, {text[first:]}"


def _without_field(text: str, name: str) -> str:
    """The field is there, and is not the only one."""
    fields = list(_fields(text))
    at = next(n for n, field in enumerate(fields) if field.name == name)
    if at == 0:
        return text[: fields[0].begins] + text[fields[1].begins :]
    return text[: fields[at - 1].ends] + text[fields[at].ends :]


def _object(body: bytes) -> dict[str, Any]:
    """Each field that is believed may stand there once, in any case: of two, one engine reads the
    first and another the last, and Go's decoder takes `Model` for `model`."""
    try:
        # Arrays are lists. NaN and Infinity are no JSON: one reader takes them, another does not.
        said = json.loads(body.decode(), object_pairs_hook=tuple, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise _not_json() from None
    if not isinstance(said, tuple):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_request")
    keys = Counter(key.casefold() for key, _ in said)
    for name in BELIEVED:
        if keys[name] > 1:
            raise InvalidRequest(
                f"The body must not hold {name} twice.", code="invalid_request", param=name
            )
    return dict(said)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _not_json() -> InvalidRequest:
    return InvalidRequest("The body is not JSON.", code="invalid_json")


def _skip_space(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at
