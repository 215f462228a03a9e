"""The ASGI application of a program: Starlette's routes, and every error in OpenAI's shape.

Starlette's own middleware wraps every message of every answer; here there is one `try` around a
request. What is no error of ours is uvicorn's to log and to answer with 500.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute
from starlette.types import Lifespan, Receive, Scope, Send

from shared.answer import Answer, ClientGone
from shared.errors import NotFound, SwapyardError


def health(trouble: str | None) -> Response:
    """What a probe is told; `trouble`: why all is not well, in one line."""
    return PlainTextResponse(f"{trouble or 'ok'}\n", 503 if trouble else 200)


def nothing(scope: Scope) -> None:
    pass


class App(Starlette):
    def __init__(
        self,
        routes: Sequence[BaseRoute],
        lifespan: Lifespan[App] | None = None,
        first: Callable[[Scope], None] = nothing,
    ) -> None:
        """`first` is called with the scope of each request, before anything else."""
        super().__init__(routes=routes, lifespan=lifespan)
        self.router.redirect_slashes = False  # to wherever the request's Host says
        self._first = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        if scope["type"] == "lifespan":
            await self.router(scope, receive, send)
            return
        self._first(scope)
        try:
            await self.router.app(scope, receive, send)
        except ClientGone:
            pass
        except SwapyardError as error:  # before an answer has begun: who begins one ends it, too
            await Answer(send).fail(error)
        except HTTPException as error:
            await Answer(send).fail(NotFound(scope["path"], error.status_code))
