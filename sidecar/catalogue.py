"""Every model of the config with what its file says: read once, when the sidecar starts."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass

import structlog

from shared.status import ModelFacts
from sidecar import header
from sidecar.config import ModelConfig, SidecarConfig
from sidecar.engine import Model
from sidecar.engines import llama_cpp
from sidecar.estimate import Shape, memory_need
from sidecar.machine import Limits
from sidecar.memory import Need

DEFAULT_CONTEXT = 4096  # of a model whose header says nothing

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Known:
    config: ModelConfig
    facts: ModelFacts
    model: Model

    @property
    def digest(self) -> str:
        """Of all that a load's time depends on: what was measured of another is no guide."""
        config, facts = self.config, self.facts
        program = (facts.engine, config.command, config.args, sorted(config.env.items()))
        model = (facts.file, facts.size, self.context, config.slots, config.gpus)
        text = json.dumps([program, model])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def context(self) -> int:
        return self.facts.context_length or DEFAULT_CONTEXT


def read(config: SidecarConfig) -> dict[str, Known]:
    return {id: _known(id, model, _engine(id, model)) for id, model in config.models.items()}


def _engine(id: str, config: ModelConfig) -> str:
    """The one that the config names, or the best that is here: said in the log, as a PATH that
    differs from the one of a login shell (systemd's) may be all that keeps a model off its GPU."""
    if config.engine is not None:
        return config.engine
    found = shutil.which(llama_cpp.PROGRAM, path=config.env.get("PATH"))
    engine = "llama.cpp" if found else "embedded"
    because = found or f"no {llama_cpp.PROGRAM} on the PATH"
    log.info("engine", model=id, engine=engine, because=because)
    return engine


def _known(id: str, config: ModelConfig, engine: str) -> Known:
    size = config.path.stat().st_size if config.path and config.path.is_file() else None
    shape = header.read(config.path) if config.path and size else None
    context = config.context_length or (shape.context_length if shape else None)
    facts = ModelFacts(
        id=id,
        engine=engine,
        served_name=config.served_name,
        context_length=context,
        slots=config.slots,
        file=str(config.path) if config.path else None,
        size=size,
        quantisation=shape.quantisation if shape else None,
    )
    model = Model(
        id=id,
        slots=config.slots,
        need=_need(config, engine, size, shape, context),
        limits=Limits(
            start=config.start_timeout,
            stall=config.stall_timeout,
            drain=config.drain_timeout,
            stop=config.stop_timeout,
        ),
        size=size,
        pinned=config.pinned,
        keep_alive=config.keep_alive,
        standby=config.standby,
        elsewhere=bool(config.stop_command),
    )
    return Known(config, facts, model)


def _need(
    config: ModelConfig, engine: str, size: int | None, shape: Shape | None, context: int | None
) -> Need:
    on_host = engine == "embedded" or config.gpus == "none"
    gpus = None if on_host or isinstance(config.gpus, str) else config.gpus
    if config.vram is not None:
        return Need(config.vram, "declared", on_host, gpus)
    if size is not None and shape is not None:
        need = memory_need(size, shape, context or DEFAULT_CONTEXT)
        return Need(need, "estimated", on_host, gpus)
    return Need(size, "estimated" if size else "unknown", on_host, gpus)
