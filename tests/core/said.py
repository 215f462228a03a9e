"""What boxes say, in few words, for the tests of the router's cores."""

from __future__ import annotations

from typing import Any

from router.queue import Ticket
from router.view import BoxView
from shared.status import (
    Catalogue,
    LoadError,
    ModelFacts,
    ModelStatus,
    Phase,
    PlanEntry,
    Status,
    Switch,
)


def ready(id: str, slots: int = 4, **more: Any) -> ModelStatus:
    return ModelStatus(id, Phase.READY, slots=slots, **more)


def starting(id: str, **more: Any) -> ModelStatus:
    return ModelStatus(id, Phase.STARTING, **more)


def idle(id: str, error: LoadError | None = None, **more: Any) -> ModelStatus:
    return ModelStatus(id, error=error, **more)


def load_error(at: float, retry_in_s: float | None = None, cause: str = "vram_oom") -> LoadError:
    return LoadError("load_failed", cause, "no room", at, retry_in_s, ("last", "words"))


def never_fits(message: str = "needs 9, has 8") -> LoadError:
    return LoadError("does_not_fit", "vram_oom", message, at=0.0)


def status(
    *models: ModelStatus,
    box: str = "box1",
    boot: str = "b1",
    seq: int = 1,
    at: float = 1000.0,
    switches: tuple[Switch, ...] = (),
    plan: tuple[PlanEntry, ...] = (),
) -> Status:
    return Status(
        v=1, box=box, boot=boot, seq=seq, at=at, models=models, switches=switches, plan=plan
    )


def catalogue(*ids: str, box: str = "box1", boot: str = "b1") -> Catalogue:
    facts = tuple(ModelFacts(id, "embedded", id, context_length=None, slots=4) for id in ids)
    return Catalogue(box, boot, facts)


def view(key: str, *models: ModelStatus, now: float = 0.0, **more: Any) -> BoxView:
    """A box that was heard, and has exactly the models of its Status."""
    box = BoxView(key, name=key)
    box.know(catalogue(*(model.id for model in models), box=key))
    box.hear(status(*models, box=key, **more), now)
    return box


def ticket(
    id: str,
    model: str = "x",
    arrived: float = 0.0,
    priority: int = 0,
    size: int = 0,
    tenant: str = "",
) -> Ticket:
    return Ticket(id, model, arrived, priority, size, tenant)
