"""The face of llama-server's router, for clients that watch loads beside their stream.

Nothing here loads a model, keeps one, or waits for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from router import llama_server, names
from router.api.openai import STARTED
from router.dispatch import Dispatch
from router.llama_server import Feed, Looked
from router.models import Load, holders, load_of
from router.peer import Peer
from router.view import BoxView
from shared import watchers
from shared.errors import InvalidRequest, ModelNotFound
from shared.wire import Deadlines, Pool, WireError

LOOK = 3.0  # seconds for a look at an engine; its sidecar gives up before
LARGEST_LOOK = 2**20  # bytes
BUILD = f"swapyard-{version('swapyard')}"


@dataclass(frozen=True, slots=True)
class LlamaServer:
    dispatch: Dispatch
    pool: Pool
    peers: Mapping[str, Peer]  # by box
    aliases: Mapping[str, str]

    async def models(self, request: Request) -> Response:
        data = [
            llama_server.item(model, boxes, names.aliases_of(model, self.aliases), STARTED)
            for model, boxes in sorted(self.dispatch.line.models().items())
        ]
        return JSONResponse({"object": "list", "data": data})

    async def props(self, request: Request) -> Response:
        if not request.query_params.get("model"):
            return JSONResponse(llama_server.props(BUILD))
        model, boxes = self._asked_for(request)
        return JSONResponse(llama_server.props_of(model, boxes, BUILD))

    async def slots(self, request: Request) -> Response:
        model, boxes = self._asked_for(request)
        looks = (self._look(box, model) for box in holders(model, boxes))
        return JSONResponse(llama_server.slots_of(model, await asyncio.gather(*looks)))

    async def _look(self, box: BoxView, model: str) -> Looked:
        peer, target = self.peers[box.key], f"/engines/{model}/slots".encode()
        headers = [(b"accept-encoding", b"identity"), *peer.headers]
        try:
            async with asyncio.timeout(LOOK):
                with await self.pool.send(
                    peer.origin, b"GET", target, headers, b"", Deadlines()
                ) as response:
                    body = await response.first_bytes(LARGEST_LOOK)
                    return Looked(box.name, response.status, body)
        except (WireError, TimeoutError):
            return Looked(box.name, None)

    def _asked_for(self, request: Request) -> tuple[str, list[BoxView]]:
        """An unknown model is 400 here, as llama-server has it."""
        line, name = self.dispatch.line, llama_server.asked_for(request.query_params.get("model"))
        models = line.models()
        try:
            model = names.resolve(name, models, self.aliases, line.unheard())
        except ModelNotFound as error:
            raise InvalidRequest(error.message, code=error.code, param=error.param) from None
        return model, models[model]


class LoadEvents:
    """An ASGI application: `GET /models/sse`. The loads are looked up once for all who watch."""

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._looked_at = -1  # after so many changes
        self._loads: Mapping[str, Load] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await watchers.tell(_Watcher(self), self._dispatch.hearings, scope, receive, send)

    def loads(self) -> Mapping[str, Load]:
        """The same as long as nothing has changed in them."""
        changes = self._dispatch.hearings.changes
        if changes != self._looked_at:
            self._looked_at, models = changes, self._dispatch.line.models()
            loads = {model: load_of(model, models[model]) for model in sorted(models)}
            self._loads = self._loads if loads == self._loads else loads
        return self._loads


class _Watcher:
    def __init__(self, events: LoadEvents) -> None:
        self._events = events
        self._feed = Feed()

    def news(self, now: float) -> bytes:
        return self._feed.news(self._events.loads(), now)

    @property
    def deadline(self) -> float:
        return self._feed.deadline
