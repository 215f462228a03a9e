"""The ASGI application of a program: Starlette's routes, and every error in OpenAI's shape.

Starlette's own middleware for errors wraps every message of every answer twice more; here there is
one `try` around a request. What is no error of ours is uvicorn's to log and to answer with 500.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.answer import Answer, ClientGone
from shared.errors import NotFound, SwapyardError


class App(Starlette):
    def build_middleware_stack(self) -> ASGIApp:
        app: ASGIApp = _Errors(self.router)
        for middleware, args, kwargs in reversed(self.user_middleware):
            app = middleware(app, *args, **kwargs)
        return app


class _Errors:
    """What is raised before an answer has begun: those who begin one see to its end themselves."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except ClientGone:
            pass
        except SwapyardError as error:
            await Answer(send).fail(error)
        except HTTPException as error:
            await Answer(send).fail(NotFound(scope["path"], error.status_code))
