"""The sidecar's endpoints: status and events, demand, engines, and what operators ask by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Lifespan

from shared.answer import read_body
from shared.app import App, health
from shared.auth import Key
from shared.demand import Demand
from shared.errors import (
    DoesNotFit,
    InvalidRequest,
    ModelNotFound,
)
from shared.gate import Guarded, caller, guard
from shared.status import Catalogue
from sidecar.events import Events
from sidecar.metrics import exposition
from sidecar.proxy import EngineProxy
from sidecar.supervisor import Supervisor

MAX_BODY = 2**20  # bytes of a message of the control plane
LOG_LINES = 200


def make_app(
    keys: Sequence[Key],
    supervisor: Supervisor,
    proxy: EngineProxy,
    lifespan: Lifespan[App],
) -> App:
    sidecar = _Endpoints(supervisor)
    routes = [  # the hottest first
        Guarded("/engines/{path:path}", proxy, "inference"),
        Guarded("/healthz", sidecar.healthz, "everyone"),
        Guarded("/readyz", sidecar.readyz, "everyone"),
        Guarded("/metrics", sidecar.metrics, "read"),
        Guarded("/gpus", sidecar.gpus, "read"),
        Guarded("/models", sidecar.models, "read"),
        Guarded("/models/status", sidecar.status, "read"),
        Guarded("/models/events", Events(supervisor), "read", methods=["GET"]),
        Guarded("/models/switch", sidecar.switch, "admin", methods=["POST"]),
        Guarded("/models/{model:path}/logs", sidecar.logs, "read"),
        Guarded("/models/{model:path}/load", sidecar.load, "admin", methods=["POST"]),
        Guarded("/models/{model:path}/unload", sidecar.unload, "admin", methods=["POST"]),
        Guarded("/demand/{router}", sidecar.demand, "inference", methods=["PUT"]),
    ]
    return App(routes=guard(keys, routes), lifespan=lifespan)


class _Endpoints:
    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    # Probes.

    async def healthz(self, request: Request) -> Response:
        return health(self._supervisor.heart.trouble)

    async def readyz(self, request: Request) -> Response:
        closing = "shutting down" if self._supervisor.box.closing else None
        return health(closing or self._supervisor.heart.trouble)

    async def metrics(self, request: Request) -> Response:
        body, content_type = exposition(self._supervisor.status.value, self._supervisor.heart.lag)
        return Response(body, media_type=content_type)

    # What is.

    async def status(self, request: Request) -> Response:
        return _json(self._supervisor.status.value.to_json())

    async def models(self, request: Request) -> Response:
        box = self._supervisor.box
        facts = tuple(known.facts for known in self._supervisor.known.values())
        return _json(Catalogue(box.name, box.boot, facts).to_json())

    async def gpus(self, request: Request) -> Response:
        rows = self._supervisor.status.value.memory
        return JSONResponse([asdict(row) for row in rows if row.kind == "gpu"])

    async def logs(self, request: Request) -> Response:
        tail = self._supervisor.log_tail(self._model(request), LOG_LINES)
        return PlainTextResponse("".join(f"{line}\n" for line in tail))

    # What routers want.

    async def demand(self, request: Request) -> Response:
        try:
            demand = Demand.from_json(await _body(request))
        except ValueError:
            message = "The body is not a demand message."
            raise InvalidRequest(message, code="invalid_request") from None
        self._supervisor.demand(request.path_params["router"], demand)
        return Response(status_code=204)

    # By hand.

    async def load(self, request: Request) -> Response:
        model = self._model_that_fits(self._model(request))
        return self._by_hand(request, self._supervisor.load, model)

    async def unload(self, request: Request) -> Response:
        return self._by_hand(request, self._supervisor.unload, self._model(request))

    async def switch(self, request: Request) -> Response:
        try:
            match json.loads(await _body(request)):
                case {"model": str() as model}:
                    pass
                case _:
                    raise InvalidRequest('The body must be {"model": ...}.', code="model_required")
        except ValueError:
            raise InvalidRequest("The body is not JSON.", code="invalid_json") from None
        model = self._model_that_fits(self._known(model))
        return self._by_hand(request, self._supervisor.switch, model)

    def _by_hand(self, request: Request, act: Callable[[str], None], model: str) -> Response:
        act(model)
        status = self._supervisor.status.value
        shown = status if caller(request.scope).may("read") else status.without_logs()
        return _json(shown.to_json(), 202)

    def _model(self, request: Request) -> str:
        return self._known(request.path_params["model"])

    def _known(self, model: str) -> str:
        if model not in self._supervisor.known:
            raise ModelNotFound(model, list(self._supervisor.known))
        return model

    def _model_that_fits(self, model: str) -> str:
        problem = self._supervisor.box.fit_problem(model)
        if problem is not None:
            raise DoesNotFit(problem)
        return model


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


async def _body(request: Request) -> bytes:
    """What the control plane takes is small."""
    return await read_body(request.scope, request.receive, MAX_BODY)
