"""What router.yaml may say: which boxes there are, and how those who wait are treated.

Rule: every default stands here, beside its reason, and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator

from shared.auth import Caller, Key
from shared.demand import HIGHEST_PRIORITY
from shared.document import Where
from shared.program import Program
from shared.settings import Duration, Listen, ModelId, Refusals, Settings, Size

Priority = Annotated[int, Field(ge=-HIGHEST_PRIORITY, le=HIGHEST_PRIORITY)]
Dialect = Literal["events", "reasoning", "events+reasoning", "status", "comments", "off"]


_URL = re.compile(r"(https?://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?)/?", re.IGNORECASE)


def _base_url(value: str) -> str:
    match = _URL.fullmatch(value)
    if not match or int(match[2] or 80) > 65535:
        raise ValueError("must be http:// or https://, a host, perhaps a port, and nothing more")
    return match[1].lower()


def _key(key: object) -> object:
    if isinstance(key, str) and not re.fullmatch("[!-~]*", key):
        raise ValueError("must be one word of printable ASCII characters, as a header can hold")
    return key or None


def _interval(seconds: float) -> float:
    if not 0.1 <= seconds <= 5:
        raise ValueError(
            "must be between 100ms and 5s: some clients give up after a longer silence"
        )
    return seconds


class Sidecar(Settings):
    url: Annotated[str, AfterValidator(_base_url)]  # without a slash at its end
    # `${SIDECAR_KEY:-}` with nothing in the environment is no key.
    key: Annotated[SecretStr | None, BeforeValidator(_key)] = None
    optional: bool = False  # True: it may be off, and that is no cause for alarm


class Progress(Settings):
    dialect: Dialect = "events"  # broke none of the 25 client programs that were tried
    # People read a number once a second; phases go out at once, whatever this says.
    interval: Annotated[Duration, AfterValidator(_interval)] = 1.0
    remarks: bool = False  # light lines in `reasoning`, for those who wait long


class ModelProgress(Settings):
    dialect: Dialect | None = None  # None: as for all models


class ModelConfig(Settings):
    """What this router adds to a model that some box serves."""

    aliases: tuple[ModelId, ...] = ()  # further names that clients may use
    progress: ModelProgress = ModelProgress()
    priority: Priority = 0  # higher first; the key's is added


class Queue(Settings):
    """How much may wait. Beyond it, an error now is worth more than an answer never."""

    max_waiting: int = Field(default=10_000, ge=1)  # at some 30 KiB each: 300 MiB of clients
    # unset: half of `max_waiting` where the keys with `inference` are of several tenants, so that
    # one alone never fills the line; else all of it. The same share of `max_bytes`
    max_waiting_per_tenant: int | None = Field(default=None, ge=1)
    max_wait: Duration = 600.0  # the default time-out of OpenAI's clients
    max_bytes: Size = 256 * 2**20  # of the bodies of those who wait


class RouterKey(Key):
    """Who may come, what for, and with whom they share their turns in the line."""

    tenant: str | None = Field(default=None, min_length=1)  # unset: the name
    priority: Priority = 0  # of all its requests; the model's is added

    def caller(self) -> Caller:
        return replace(super().caller(), tenant=self.tenant or self.name, priority=self.priority)


class RouterConfig(Program):
    keys: tuple[RouterKey, ...] = ()  # who may use it; with none, everyone on this machine
    listen: Listen = Listen("127.0.0.1", 8080)  # what comes in by mistake comes from this machine
    sidecars: tuple[Sidecar, ...] = Field(min_length=1)
    box_grace: Duration = 15.0  # a sidecar that is restarted is back by then
    progress: Progress = Progress()
    models: Mapping[ModelId, ModelConfig] = {}
    queue: Queue = Queue()
    max_body: Size = 32 * 2**20  # a conversation with a few images in it

    def priority(self, model: str, caller: Caller) -> int:
        """The model's and the key's together, within the bounds of each."""
        settings = self.models.get(model)
        both = (settings.priority if settings else 0) + caller.priority
        return max(-HIGHEST_PRIORITY, min(both, HIGHEST_PRIORITY))

    def max_waiting_per_tenant(self) -> int | None:
        """None: as many as of all together."""
        tenants = {key.caller().tenant for key in self.keys if "inference" in key.scopes}
        if self.queue.max_waiting_per_tenant is None and len(tenants) > 1:
            return -(-self.queue.max_waiting // 2)
        return self.queue.max_waiting_per_tenant

    @field_validator("sidecars")
    @classmethod
    def _each_box_once(cls, sidecars: tuple[Sidecar, ...]) -> tuple[Sidecar, ...]:
        urls = [sidecar.url for sidecar in sidecars]
        again = [n for n, url in enumerate(urls) if url in urls[:n]]
        if again:
            raise Refusals([((n, "url"), f"{urls[n]} is listed twice") for n in again])
        return sidecars

    @field_validator("models")
    @classmethod
    def _a_name_means_one_model(
        cls, models: Mapping[str, ModelConfig]
    ) -> Mapping[str, ModelConfig]:
        owners: dict[str, str] = {}
        clashes: list[tuple[Where, str]] = []
        for name, model in models.items():
            for n, alias in enumerate(model.aliases):
                here = (name, "aliases", n)
                if alias in models:
                    clashes.append((here, f"{alias} is the name of a configured model"))
                elif alias in owners:
                    clashes.append((here, f"{alias} is already an alias of {owners[alias]}"))
                owners.setdefault(alias, name)
        if clashes:
            raise Refusals(clashes)
        return models
