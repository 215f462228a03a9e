"""What llama-server's router says to its clients: models, loads and slots, in its own words.

Rule 1: the words of that protocol are spelled here and nowhere else. What it cannot say of our
models is left out; what we do not know is never made up.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from router.models import Load, LoadState, context_of, holders, load_of
from router.view import BoxView
from shared import slots
from shared.errors import InvalidRequest, NotSupported, Unavailable
from shared.sse import Event, comment, encode

# llama-server has no word for a load that failed: such a model is `unloaded`, and `failed` besides.
WORDS: dict[LoadState, str] = {
    "loaded": "loaded",
    "loading": "loading",
    "unloaded": "unloaded",
    "failed": "unloaded",
}
NOWHERE = Load("unloaded")
STAGE = "text_model"  # the only one that our engines report
NO_LIMIT = 0  # of models at a time: memory decides

# Seconds. Hermes drops a load that it hears nothing of for 120, and a stream that is silent for 60.
REPEAT = 5.0
HEARTBEAT = comment("nothing new")

# What a box answers that is asked for slots.
OK = 200
NO_SUCH_PATH = 404  # of an older sidecar
REFUSED = 409  # its engine is not up any more
NOT_SUPPORTED = 501


def item(
    model: str, boxes: Collection[BoxView], aliases: list[str], created: int
) -> dict[str, Any]:
    """One model of `GET /models`."""
    load, context = load_of(model, boxes), context_of(model, boxes)
    return {
        "id": model,
        "aliases": aliases,
        "tags": [],
        "object": "model",
        "owned_by": "swapyard",
        "created": created,
        "status": {"value": WORDS[load.state], **_failed(load)},
        "context_length": context,
        "max_model_len": context,
        **_running(load, context),
    }


def _running(load: Load, context: int | None) -> dict[str, Any]:
    """What llama-server takes from an engine that is up: it names the context twice."""
    if load.state != "loaded" or context is None:
        return {}
    return {"meta": {"n_ctx": context, "n_ctx_train": context}}


def _failed(load: Load) -> dict[str, Any]:
    return {"failed": True} if load.state == "failed" else {}


def props(build: str) -> dict[str, Any]:
    """`GET /props`: by `role` a client knows a router. It has no model of its own, so the fields
    that single servers fill are there and empty, as llama-server's router has them."""
    return {
        "role": "router",
        "max_instances": NO_LIMIT,
        "models_autoload": True,
        "model_alias": "swapyard",
        "model_path": "none",
        "default_generation_settings": {"params": None, "n_ctx": 0},
        "ui_settings": {},
        "build_info": build,
        "cors_proxy_enabled": False,
    }


def props_of(model: str, boxes: Collection[BoxView], build: str) -> dict[str, Any]:
    """`GET /props?model=`, of a loaded one: what is known without asking its engine."""
    if load_of(model, boxes).state != "loaded":
        raise not_loaded(model)
    return {
        "default_generation_settings": {"params": None, "n_ctx": context_of(model, boxes) or 0},
        "total_slots": sum(box.facts[model].slots for box in holders(model, boxes)),
        "model_alias": model,
        "model_path": "none",
        "build_info": build,
    }


def asked_for(name: str | None) -> str:
    """The model that `?model=` names."""
    if not name:
        raise InvalidRequest(
            "The query must name a model: ?model=...", code="model_required", param="model"
        )
    return name


def not_loaded(model: str) -> InvalidRequest:
    return InvalidRequest(f"{model} is not loaded.", code="model_not_loaded", param="model")


# `GET /models/sse`.


class Feed:
    """What one reader of `/models/sse` was told, and what is new to it.

    It is told every model as it is, and then each change. There is no backlog: a slow reader is
    told the newest of each model.
    """

    def __init__(self) -> None:
        self._heard: Mapping[str, Load] | None = None  # last
        self._told: dict[str, Load] = {}
        self._loading: dict[str, float] = {}  # those of them that load, and when that was told last
        self._spoke_at = -math.inf

    def news(self, loads: Mapping[str, Load], now: float) -> bytes:
        """What changed since, and loads that were not told for a while; a heartbeat when there was
        nothing for a while. Often it is nothing at all: the same `loads` are not looked through
        again."""
        if loads is self._heard and now < self.deadline:
            return b""
        self._heard = loads
        changed = [model for model in sorted(loads) if self._is_news(model, loads[model], now)]
        gone = sorted(self._told.keys() - loads.keys())
        frames = [self._tell(model, loads[model], now) for model in changed]
        frames += [self._forget(model) for model in gone]
        if not frames and now >= self._spoke_at + REPEAT:
            frames = [HEARTBEAT]
        if frames:
            self._spoke_at = now
        return b"".join(frames)

    @property
    def deadline(self) -> float:
        """When there is something to say even if nothing happens before."""
        return min([self._spoke_at, *self._loading.values()]) + REPEAT

    def _is_news(self, model: str, load: Load, now: float) -> bool:
        if self._told.get(model) != load:
            return True
        return model in self._loading and now >= self._loading[model] + REPEAT

    def _tell(self, model: str, load: Load, now: float) -> bytes:
        self._told[model] = load
        self._loading.pop(model, None)
        if load.state == "loading":
            self._loading[model] = now
        return _frame(model, load)

    def _forget(self, model: str) -> bytes:
        """No box has it any more."""
        del self._told[model]
        self._loading.pop(model, None)
        return _frame(model, NOWHERE)


@lru_cache(maxsize=1024)  # each of hundreds of readers is told the same
def _frame(model: str, load: Load) -> bytes:
    said: dict[str, Any] = {"status": WORDS[load.state], **_failed(load)}
    if load.progress is not None:
        said["progress"] = {"stages": [STAGE], "current": STAGE, "value": load.progress}
    return encode(Event(json.dumps({"model": model, "event": "model_status", "data": said})))


# `GET /slots`.


@dataclass(frozen=True, slots=True)
class Looked:
    """What one box answered when it was asked for the slots of a model's engine."""

    box: str
    status: int | None  # None: no answer in time
    body: bytes = b""


def slots_of(model: str, looked: Iterable[Looked]) -> list[dict[str, Any]]:
    """The slots of all boxes that show them, each with its box. Raises why, if none does."""
    looked = list(looked)
    shown = [(each, slots_on(each)) for each in looked]
    found = [{**slot, "box": each.box} for each, some in shown for slot in some or ()]
    if any(some is not None for _, some in shown):
        return found
    answers = {each.status for each in looked}
    if answers <= {REFUSED}:  # also when there is no box to ask
        raise not_loaded(model)
    if answers & {NO_SUCH_PATH, NOT_SUPPORTED}:
        raise NotSupported(f"The engine of {model} does not show its slots.")
    boxes = ", ".join(each.box for each in looked)
    raise Unavailable(f"No answer about {model} from {boxes}.", code="box_unreachable")


def slots_on(looked: Looked) -> list[dict[str, Any]] | None:
    try:
        return slots.shown(looked.body) if looked.status == OK else None
    except ValueError:
        return None
