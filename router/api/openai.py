"""OpenAI's face: every POST below `/v1/` that names a model, and the list of models."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from router import names
from router.call import Call, read
from router.config import RouterConfig
from router.dispatch import Dispatch
from router.failures import shutting_down
from router.models import context_of, load_of
from router.peer import Peer
from router.progress import format_of, known_dialect, speaks
from router.relay import Relay, Upstream
from router.request_id import request_id
from router.view import BoxView
from router.voice import Stream, Voice
from shared import keep_alive
from shared.answer import Answer, ClientGone, read_body, while_client_stays
from shared.errors import InternalError, ModelNotFound, SwapyardError, Unavailable
from shared.gate import caller
from shared.headers import REQUEST_HEADERS, WHOLE, header, only
from shared.uploads import Uploads
from shared.wire import Pool

SILENT = Voice(Stream("", "", 0, "other"))  # for answers that are no streams

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Inference:
    """An ASGI application: `POST /v1/{path}`."""

    config: RouterConfig
    dispatch: Dispatch
    pool: Pool
    peers: Mapping[str, Peer]
    aliases: Mapping[str, str]
    uploads: Uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        id = request_id(scope)
        answer = Answer(send, shows_logs=caller(scope).may("read"))
        try:
            body = await read_body(scope, receive, self.config.max_body, self.uploads)
            with while_client_stays(scope):
                await self._serve(scope, id, body, answer)
        except ClientGone:
            log.info("client left", request=id, path=scope["path"])
        except SwapyardError as error:
            log.info("failed", request=id, path=scope["path"], **error.for_log())
            await answer.fail(error)
        except asyncio.CancelledError:  # the router's farewell has taken too long: this is its end
            await answer.fail(shutting_down())
        except Exception:  # whoever was promised a stream must hear of its end
            log.exception("a fault of ours", request=id)
            await answer.fail(InternalError())

    async def _serve(self, scope: Scope, id: str, body: bytes, answer: Answer) -> None:
        query = scope["query_string"].decode("latin-1")
        asked = read(scope["path_params"]["path"], query, body)
        model = await self._resolve(asked.name)
        voice = self._voice(scope, id, asked, model)
        came = caller(scope)
        priority = self.config.priority(model, came)
        with self.dispatch.place(model, priority, len(body), came.tenant) as place:
            relay = Relay(
                call=asked,
                voice=voice,
                interval=self.config.progress.interval,
                place=place,
                upstream=self._upstream(scope, id, asked),
                answer=answer,
            )
            await relay.run()
            log.info(relay.outcome, request=id, model=model, path=asked.path, **relay.summary())

    async def _resolve(self, name: str) -> str:
        """A fresh router waits a little for its boxes before it says that there is no model: also
        for those that may be off."""
        line, aliases = self.dispatch.line, self.aliases
        try:
            return names.resolve(name, line.models(), aliases, line.unheard())
        except (Unavailable, ModelNotFound):
            await self.dispatch.boxes_heard()
            return names.resolve(name, line.models(), aliases, line.unheard())

    def _voice(self, scope: Scope, id: str, asked: Call, model: str) -> Voice:
        dialect = self._dialect(scope, model)
        if not asked.stream:
            return SILENT
        stream = Stream(
            id=f"chatcmpl-{id}",
            model=asked.name,
            created=int(time.time()),
            format=format_of(asked.path),
            remarks=self.config.progress.remarks,
        )
        return speaks(dialect, stream)

    def _dialect(self, scope: Scope, model: str) -> str:
        """The request's own wish, else the model's, else everybody's."""
        wished = header(scope, b"x-swapyard-progress")
        if wished is not None:
            return known_dialect(wished)
        settings = self.config.models.get(model)
        of_model = settings.progress.dialect if settings else None
        return of_model or self.config.progress.dialect

    def _upstream(self, scope: Scope, id: str, asked: Call) -> Upstream:
        headers = [
            *(h for h in only(scope["headers"], REQUEST_HEADERS) if h[0] != b"x-request-id"),
            (b"x-request-id", id.encode()),
            (b"x-swapyard-router", self.dispatch.id.encode()),
            (b"accept-encoding", b"identity"),
        ]
        if not asked.stream:
            headers.append((WHOLE, b"1"))
        if asked.keep_alive is not None:
            headers.append((keep_alive.HEADER, keep_alive.told(asked.keep_alive)))
        return Upstream(self.pool, headers, self.peers)


@dataclass(frozen=True, slots=True)
class Models:
    """`GET /v1/models`: every model, loaded or not. It never causes a load."""

    dispatch: Dispatch
    aliases: Mapping[str, str]

    async def every(self, request: Request) -> Response:
        models = self.dispatch.line.models()
        data = [self._item(model, boxes) for model, boxes in sorted(models.items())]
        return JSONResponse({"object": "list", "data": data})

    async def one(self, request: Request) -> Response:
        line = self.dispatch.line
        models = line.models()
        name = request.path_params["model"]
        id = names.resolve(name, models, self.aliases, line.unheard())
        return JSONResponse(self._item(id, models[id]))

    def _item(self, model: str, boxes: list[BoxView]) -> dict[str, Any]:
        context = context_of(model, boxes)
        value = load_of(model, boxes).state
        return {
            "id": model,
            "object": "model",
            "created": STARTED,
            "owned_by": "swapyard",
            "aliases": names.aliases_of(model, self.aliases),
            "status": {"value": value},
            "loaded": value == "loaded",
            "boxes": [box.name for box in boxes],
            "context_length": context,
            "max_model_len": context,
        }


STARTED = int(time.time())
