"""What one router wants from one box: whole and declarative, never a difference.

The newest message of a router replaces the one before; what is not repeated within `ttl_s` is
forgotten. So a lost message is repaired by the next, and a dead router's demand expires.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field, TypeAdapter

TTL = 3.0  # seconds; a longer one leaves the ghosts of dead routers loading models
LONGEST_TTL = 60.0
HIGHEST_PRIORITY = 16  # and the lowest is its opposite: weights stay numbers that can be summed


@dataclass(frozen=True, slots=True)
class ModelDemand:
    """`waiting` by priority, age of the oldest, and how many requests this router has sent here.

    `sent` counts since the router's start. With it the box knows of requests that are on the
    wire, when the message that no longer holds them has overtaken them.
    """

    waiting: Mapping[
        Annotated[int, Field(ge=-HIGHEST_PRIORITY, le=HIGHEST_PRIORITY)],
        Annotated[int, Field(ge=0)],
    ] = field(default_factory=dict)
    oldest_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    sent: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, slots=True)
class Demand:
    v: int
    seq: int
    ttl_s: Annotated[float, Field(gt=0, le=LONGEST_TTL)]
    models: Mapping[str, ModelDemand]

    def to_json(self) -> bytes:
        return _DEMAND.dump_json(self)

    @classmethod
    def from_json(cls, raw: bytes | str) -> Demand:
        """Raises ValueError on anything that is not a Demand."""
        return _DEMAND.validate_json(raw)


_DEMAND = TypeAdapter(Demand)
