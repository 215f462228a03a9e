"""Keys at the door: each route says whom it lets in, and one that says nothing lets in nobody.

The gate stands right around what a route calls, so that no spelling of a path can lead past it,
and nothing of a body is read before a request is let in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import structlog
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from shared import auth
from shared.errors import Forbidden, Unauthorized

KEY = "swapyard.caller"  # in the scope

log = structlog.get_logger()


class Guarded(Route):
    """A route that takes a key with any one of the scopes `needs`."""

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *needs: auth.Need,
        methods: list[str] | None = None,
    ) -> None:
        super().__init__(path, endpoint, methods=methods)
        self.needs = needs


def guard(keys: Sequence[auth.Key], routes: Sequence[Route]) -> Sequence[Route]:
    """The routes, each behind its gate."""
    known = auth.known(keys)
    for route in routes:
        route.app = _Gate(known, getattr(route, "needs", ()), route.app)
    return routes


def caller(scope: Scope) -> auth.Caller:
    """Who was let in with this request."""
    found: auth.Caller = scope[KEY]
    return found


class _Gate:
    def __init__(
        self, keys: Sequence[auth.Known], needs: Sequence[auth.Need], app: ASGIApp
    ) -> None:
        self._keys = keys
        self._needs = needs
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            scope[KEY] = auth.admit(self._keys, scope["headers"], self._needs)
        except (Unauthorized, Forbidden) as error:
            log.info(
                "not let in",
                path=scope["path"],
                client=scope["client"][0] if scope["client"] else None,
                key=error.key,
                code=error.code,
            )
            raise
        await self._app(scope, receive, send)
