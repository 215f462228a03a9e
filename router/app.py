"""The router's life and its list of routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from router.api.fleet import Fleet
from router.api.llama_server import LlamaServer, LoadEvents
from router.api.openai import Inference, Models
from router.config import RouterConfig
from router.dispatch import Dispatch
from router.limits import LineLimits
from router.peer import Peer
from router.request_id import RequestIds
from shared.app import App
from shared.gate import Guarded, guard
from shared.uploads import Uploads
from shared.wire import Pool

KEEPALIVE = 30.0  # seconds that an idle connection to a sidecar is kept; it would keep it longer

log = structlog.get_logger()


def make_app(config: RouterConfig, dispatch: Dispatch) -> App:
    aliases = {alias: id for id, model in config.models.items() for alias in model.aliases}
    peers = {sidecar.url: Peer.of(sidecar) for sidecar in config.sidecars}
    pool = Pool(KEEPALIVE)
    fleet, models = Fleet(dispatch, aliases), Models(dispatch, aliases)

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[None]:
        dispatch.start()
        log.info("ready", listen=str(config.listen), boxes=[s.url for s in config.sidecars])
        try:
            yield
        finally:
            dispatch.stop()
            pool.close()

    # One body alone always has room.
    uploads = Uploads(max(config.queue.max_bytes, config.max_body))
    inference = Inference(config, dispatch, pool, peers, aliases, uploads)
    llama = LlamaServer(dispatch, pool, peers, aliases)
    routes = [  # the hottest first
        Guarded("/v1/{path:path}", inference, "inference", methods=["POST"]),
        Guarded("/v1/models", models.every, "inference", "read"),
        Guarded("/v1/models/{model:path}", models.one, "inference", "read"),
        Guarded("/models", llama.models, "inference", "read"),
        Guarded("/models/sse", LoadEvents(dispatch), "inference", "read", methods=["GET"]),
        Guarded("/props", llama.props, "inference", "read"),
        Guarded("/slots", llama.slots, "read"),
        Guarded("/api/fleet", fleet.fleet, "read"),
        Guarded("/api/explain", fleet.explain, "read"),
        Guarded("/healthz", fleet.healthz, "everyone"),
        Guarded("/readyz", fleet.readyz, "everyone"),
    ]
    return App(
        routes=guard(config.keys, routes),
        lifespan=lifespan,
        first=RequestIds().give,
    )


def make_dispatch(config: RouterConfig) -> Dispatch:
    limits = LineLimits(
        max_waiting=config.queue.max_waiting,
        max_bytes=config.queue.max_bytes,
        max_wait=config.queue.max_wait,
        box_grace=config.box_grace,
        max_waiting_per_tenant=config.max_waiting_per_tenant(),
    )
    optional = [sidecar.url for sidecar in config.sidecars if sidecar.optional]
    return Dispatch(limits, [sidecar.url for sidecar in config.sidecars], optional)
