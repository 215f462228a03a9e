"""What sidecar.yaml may say: where this box listens, and the models it may serve.

Rule: every default stands here, beside its reason, and nowhere else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from shared.program import Program
from shared.settings import ConfigPath, Duration, Listen, ModelId, Refusals, Settings, Size

# llama.cpp divides one unified KV cache among its slots; what a command starts is mostly a server
# that batches (vLLM, SGLang) and is slow when it is fed one by one.
_SLOTS = {None: 4, "llama.cpp": 4, "embedded": 4, "command": 16}

_WORDS = ("{port}", "{path}", "{model}")
_WORD = re.compile(r"\{[a-z_]+\}")


def _slots(model: dict[str, Any]) -> int:
    return _SLOTS[model["engine"]]


MOST_GPUS = 16  # of one engine; no box has more

# NVIDIA's and AMD's; by its place on the PCI bus, one of AMD's that has none.
_UUID = re.compile(r"GPU-[0-9A-Za-z-]+|[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


def _gpus(value: object) -> object:
    if isinstance(value, list):
        return _listed(value)
    text = str(value)
    if text in ("auto", "none"):
        return text
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise ValueError("must be auto, none, how many, or a list of indexes and UUIDs")
    if not 1 <= int(text) <= MOST_GPUS:
        raise ValueError(f"must be from 1 to {MOST_GPUS}, or none")
    return int(text)


def _listed(gpus: list[object]) -> tuple[int | str, ...]:
    if not 1 <= len(gpus) <= MOST_GPUS:
        raise ValueError(f"must list from 1 to {MOST_GPUS} GPUs; for no GPU write none")
    texts = [str(it) for it in gpus]
    refused = [((n,), why) for n, it in enumerate(texts) if (why := _refused(it, texts[:n]))]
    if refused:
        raise Refusals(refused)
    return tuple(int(it) if it.isdigit() else it for it in texts)


def _refused(gpu: str, before: list[str]) -> str | None:
    if not re.fullmatch(r"0|[1-9][0-9]{0,3}", gpu) and not _UUID.fullmatch(gpu):
        return f"must be a GPU's index or UUID, as `GET /gpus` shows them (got {gpu[:60]!r})"
    return f"is listed twice (got {gpu[:60]!r})" if gpu in before else None


# How many, or which ones: `none` books on the host's memory.
Gpus = Annotated[Literal["auto", "none"] | int | tuple[int | str, ...], BeforeValidator(_gpus)]


class ModelConfig(Settings):
    """One engine that this box may run, and how patient to be with it."""

    # None: llama.cpp where `llama-server` is on the PATH, else embedded.
    engine: Literal["llama.cpp", "embedded", "command"] | None = None
    path: ConfigPath | None = Field(default=None, validate_default=True)  # the GGUF file
    args: tuple[str, ...] = ()  # appended to the engine's own arguments
    command: tuple[str, ...] = Field(
        default=(), validate_default=True
    )  # may hold {port} {path} {model}
    stop_command: tuple[str, ...] = ()  # before SIGTERM: `docker stop`, for one
    env: Mapping[str, str] = Field(
        {}, validate_default=True
    )  # may hold {key}, the key of this launch
    health: str = "/health"  # 2xx = ready; llama-server, vLLM and SGLang all have it
    served_name: str = ""  # what the engine is told as `model`; unset: the id
    vram: Size | None = None  # None: estimated from the GGUF file
    # auto: any one; a number: so many, evenly; a list: exactly those, evenly and in that order;
    # none: books on the host's memory
    gpus: Gpus = "auto"
    context_length: int | None = Field(default=None, ge=1)  # None: what the GGUF header says
    slots: int = Field(ge=1, default_factory=_slots)  # requests at a time
    # Unload after this long without a request; 0: as soon as it is idle. `never`: whoever needs the
    # room takes it anyway.
    keep_alive: Duration = math.inf
    pinned: bool = False  # True: never leaves to make room
    standby: bool = False  # True: comes back when nobody else wants the room any more
    # 100 GB from a slow disk take this long; a load that hangs is caught by `stall_timeout`.
    start_timeout: Duration = 1800.0
    stall_timeout: Duration = 300.0  # no sign of progress; Ollama's OLLAMA_LOAD_TIMEOUT
    silence_timeout: Duration = 300.0  # the longest prefills are silent for minutes
    drain_timeout: Duration = 600.0  # long answers end by themselves; a stuck one holds up a box
    stop_timeout: Duration = 10.0  # then by force; as supervisor, llama-swap and llama-server

    @field_validator("path")
    @classmethod
    def _llama_cpp_needs_a_file(cls, path: object, info: ValidationInfo) -> object:
        engine = info.data.get("engine", "command")  # a wrong one has a problem of its own
        if path is None and engine is None:
            raise ValueError("is required, unless with `engine: command`")
        if path is None and engine != "command":
            raise ValueError(f"is required with `engine: {engine}`")
        return path

    @field_validator("command")
    @classmethod
    def _the_engine_decides(cls, command: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        """A command alone does not say `engine: command`: what is run, how many slots it has and
        how it tells that it is ready must not hang on one line that was added or forgotten."""
        if "engine" not in info.data:  # a wrong one has a problem of its own
            return command
        engine = info.data["engine"]
        if engine == "command" and not command:
            raise ValueError("is required with `engine: command`: the program and its arguments")
        if engine != "command" and command:
            who = engine or "without `engine`, a model"
            raise ValueError(f"is for `engine: command`; {who} takes `path` and `args`")
        return command

    @field_validator("gpus")
    @classmethod
    def _embedded_has_none(cls, gpus: object, info: ValidationInfo) -> object:
        if info.data.get("engine") == "embedded" and gpus not in ("auto", "none"):
            raise ValueError("is for engines on a GPU; `engine: embedded` runs on the processor")
        return gpus

    @field_validator("args", "command", "stop_command")
    @classmethod
    def _no_key_in_sight(cls, arguments: tuple[str, ...]) -> tuple[str, ...]:
        shown = [n for n, argument in enumerate(arguments) if "{key}" in argument]
        if shown:
            said = "must not hold {key}, which `ps` would show to everyone: pass it in `env`"
            raise Refusals([((n,), said) for n in shown])
        return arguments

    @field_validator("args", "command", "stop_command")
    @classmethod
    def _words_in_braces_are_known(cls, arguments: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [
            (n, word)
            for n, argument in enumerate(arguments)
            for word in _WORD.findall(argument)
            if word not in _WORDS
        ]
        if unknown:
            known = ", ".join(_WORDS)
            raise Refusals([((n,), f"{word} is none of {known}") for n, word in unknown])
        return arguments

    @field_validator("standby")
    @classmethod
    def _a_standby_stays(cls, standby: bool, info: ValidationInfo) -> bool:
        if standby and info.data.get("keep_alive", math.inf) < math.inf:
            raise ValueError("comes back at once when `keep_alive` has sent it away: choose one")
        return standby

    @field_validator("health", "stop_command")
    @classmethod
    def _is_for_commands(cls, value: object, info: ValidationInfo) -> object:
        """llama.cpp's engines report that they are ready, and are told to go in their own way."""
        if info.data.get("engine", "command") != "command":
            raise ValueError("is for `engine: command`")
        return value

    @field_validator("health")
    @classmethod
    def _is_a_path(cls, health: str) -> str:
        if not health.startswith("/"):
            raise ValueError("must be a path that begins with /")
        return health


class Scheduling(Settings):
    # At least six times the longest load, or an overloaded box thrashes (seen in simulation):
    # enough for loads of 20 s. Who has waited this long for a turn comes before all others.
    patience: Duration = 120.0
    min_resident: Duration = 0.0  # how long a model stays at least, whoever waits meanwhile
    preload: tuple[ModelId, ...] = ()  # loaded at start, in this order, as far as there is room


class SidecarConfig(Program):
    listen: Listen = Listen("127.0.0.1", 8090)  # what comes in by mistake comes from this machine
    box: str | None = Field(default=None, min_length=1)  # None: the host's name
    memory_limit: Size | None = None  # of the host, for engines; None: 90 % of what there is
    scheduling: Scheduling = Scheduling()
    shutdown_timeout: Duration = 30.0  # as long as Kubernetes waits before it kills
    # How long engines outlive a sidecar that was killed, for the next one to take them over. More
    # than a restart takes, and less than somebody wants to wait for their memory.
    orphan_grace: Duration = 60.0
    models: Mapping[ModelId, ModelConfig] = Field(min_length=1)

    @field_validator("models")
    @classmethod
    def _preloads_are_models(
        cls, models: Mapping[str, ModelConfig], info: ValidationInfo
    ) -> Mapping[str, ModelConfig]:
        scheduling = info.data.get("scheduling", Scheduling())
        unknown = [m for m in scheduling.preload if m not in models]
        if unknown:
            raise ValueError(f"`scheduling.preload` names {', '.join(unknown)}, which is not here")
        return models

    @field_validator("models")
    @classmethod
    def _served_by_their_ids(cls, models: Mapping[str, ModelConfig]) -> Mapping[str, ModelConfig]:
        return {
            name: model.model_copy(update={"served_name": model.served_name or name})
            for name, model in models.items()
        }
