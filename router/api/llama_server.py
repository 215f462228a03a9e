"""The face of llama-server's router, for clients that watch loads beside their stream.

Nothing here loads a model, keeps one, or waits for one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from router import llama_server, names
from router.api.openai import STARTED
from router.dispatch import Dispatch
from router.llama_server import Feed, Looked
from router.models import holders, load_of
from router.peer import Peer
from router.view import BoxView
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

    async def events(self, request: Request) -> Response:
        headers = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"}
        return StreamingResponse(self._frames(), headers=headers, media_type="text/event-stream")

    async def _frames(self) -> AsyncIterator[bytes]:
        """Until the client leaves or the router ends."""
        feed, heard = Feed(), self.dispatch.hearings
        while True:
            seen, models = heard.value, self.dispatch.line.models()
            loads = {model: load_of(model, boxes) for model, boxes in models.items()}
            if frames := feed.news(loads, time.monotonic()):
                yield frames
            if heard.closed:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(feed.deadline - time.monotonic()):
                    await heard.beyond(seen)

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
