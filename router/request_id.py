"""One id per request: the client's own if it is sane, else a new one. Every answer carries it."""

from __future__ import annotations

import itertools
import secrets

from starlette.types import Scope

from router.call import is_sane_id
from shared.exchange import SAID
from shared.headers import header

HEADER = b"x-request-id"
KEY = "swapyard.request_id"  # in the scope


class RequestIds:
    """Gives each request its id, and the id to its answer."""

    def __init__(self) -> None:
        self._start = secrets.token_hex(8)  # of this router's run
        self._numbers = itertools.count(1)

    def give(self, scope: Scope) -> None:
        given = header(scope, HEADER)
        id = scope[KEY] = given if given and is_sane_id(given) else self._new()
        scope["extensions"][SAID] = [(HEADER, id.encode())]

    def _new(self) -> str:
        return f"{self._start}-{next(self._numbers):x}"


def request_id(scope: Scope) -> str:
    id: str = scope[KEY]
    return id
