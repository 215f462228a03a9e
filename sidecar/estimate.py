"""How long loads, stops and answers take, and how much memory a model needs.

Rule 1: an estimate always names its source; with no source there is no number.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.status import LoadSource

LOAD_WEIGHT = 0.3  # of the newest load in the mean: a load is rare and depends on the page cache
SERVICE_WEIGHT = 0.2  # of the newest answer: the figure that the scheduling rules were tried with

BYTES_PER_SECOND = 1e9  # of a load that was never seen: an NVMe disk or a warm page cache
UNKNOWN_LOAD = 5.0  # seconds, for the planner's arithmetic only; never told to anybody
KV_BYTES = 2  # of one number in the KV cache: F16
COMPUTE = 64 * 2**20  # bytes of buffers that llama.cpp takes beside weights and KV cache


def mean(before: float | None, newest: float, weight: float) -> float:
    """Exponentially weighted: the newest counts `weight`."""
    return newest if before is None else (1 - weight) * before + weight * newest


@dataclass(slots=True)
class History:
    """What was measured of one model on this box, in seconds."""

    size: int | None = None  # bytes of its file
    load: float | None = None
    stop: float | None = None
    service: float | None = None

    def loaded(self, took: float) -> None:
        self.load = mean(self.load, took, LOAD_WEIGHT)

    def stopped(self, took: float) -> None:
        self.stop = mean(self.stop, took, LOAD_WEIGHT)

    def served(self, took: float) -> None:
        self.service = mean(self.service, took, SERVICE_WEIGHT)

    def load_estimate(self) -> tuple[float | None, LoadSource]:
        if self.load is not None:
            return self.load, "history"
        if self.size is not None:
            return self.size / BYTES_PER_SECOND, "size"
        return None, "unknown"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a GGUF header says that decides the size of the KV cache."""

    kv_heads: int  # over all layers
    key_length: int
    value_length: int
    context_length: int  # what the model was made for
    quantisation: str | None = None


def memory_need(file_size: int, shape: Shape, context: int) -> int:
    """Bytes: the weights, the KV cache of one unified context, and llama.cpp's buffers."""
    per_token = shape.kv_heads * (shape.key_length + shape.value_length) * KV_BYTES
    return file_size + per_token * context + COMPUTE
