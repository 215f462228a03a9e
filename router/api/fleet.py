"""The fleet's face: boxes and the line for people and pages, and the probes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from router import names
from router.dispatch import Dispatch
from router.llama_server import asked_for
from shared.app import health


@dataclass(frozen=True, slots=True)
class Fleet:
    dispatch: Dispatch
    aliases: Mapping[str, str]

    async def fleet(self, request: Request) -> Response:
        """Every box's Status as it was last heard, and who waits."""
        return JSONResponse({"boxes": self._boxes(), "line": self._line()})

    async def explain(self, request: Request) -> Response:
        """Which boxes would serve a model now, and why."""
        line, name = self.dispatch.line, asked_for(request.query_params.get("model"))
        model = names.resolve(name, line.models(), self.aliases, line.unheard())
        return JSONResponse(line.explain(model, time.monotonic()))

    async def healthz(self, request: Request) -> Response:
        return health(self.dispatch.heart.trouble)

    async def readyz(self, request: Request) -> Response:
        """Ready when at least one box is heard, and until it shuts down."""
        return health(self.dispatch.heart.trouble or self._why_nobody_is_served())

    def _why_nobody_is_served(self) -> str | None:
        line = self.dispatch.line
        if line.closing:
            return "shutting down"
        heard = any(box.live for box in line.boxes.values())
        return None if heard else "no box can be reached"

    def _boxes(self) -> list[dict[str, Any]]:
        boxes = []
        for view in self.dispatch.line.boxes.values():
            status = json.loads(view.status.to_json()) if view.status else {"box": view.name}
            ours = {"url": view.key, "live": view.live, "optional": view.optional}
            boxes.append({**status, **ours, "trouble": view.trouble})
        return boxes

    def _line(self) -> list[dict[str, Any]]:
        now = time.monotonic()
        return [
            {
                "model": model,
                "waiting": len(queue),
                "oldest_s": round(now - queue.oldest(), 3),
                "box": self.dispatch.line.placed(model),
            }
            for model, queue in self.dispatch.line.waiting().items()
        ]
