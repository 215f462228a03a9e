"""What one request asks for: the model, whether it streams, how it wants to be told.

Rule 1: everything that comes from outside is looked at here, and nothing else is believed.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from shared.errors import InvalidRequest

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, slots=True)
class Call:
    path: str  # below /v1/
    name: str  # of the model, as the client says it
    stream: bool
    body: bytes


def read(path: str, body: bytes) -> Call:
    """Raises InvalidRequest, which names the field."""
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
    return Call(path, name, stream is True, body)


def is_sane_id(id: str | None) -> bool:
    """Whether a client's own request id may go into headers and logs."""
    return id is not None and REQUEST_ID.fullmatch(id) is not None


def with_model(body: bytes, name: str) -> bytes:
    """The body as it came, but for the value of its top-level `model`."""
    text = body.decode()
    decoder, at = json.JSONDecoder(), _skip_space(text, 0) + 1
    while True:
        at = _skip_space(text, at)
        key, at = decoder.raw_decode(text, at)
        at = _skip_space(text, at) + 1  # the colon
        start = _skip_space(text, at)
        _, at = decoder.raw_decode(text, start)
        if key == "model":
            return f"{text[:start]}{json.dumps(name)}{text[at:]}".encode()
        at = _skip_space(text, at) + 1  # the comma


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body.decode())
    except (ValueError, RecursionError):
        raise InvalidRequest("The body is not JSON.", code="invalid_json") from None
    if not isinstance(said, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_request")
    return said


def _skip_space(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at
