"""How long loads, stops and answers take, and how much memory a model needs.

Rule 1: an estimate always names its source; with no source there is no number.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from shared.status import EtaSource, LoadSource, ProgressSource

KEPT = 5  # newest loads and stops; their median is not moved by the one that found the disk cold
SERVICE_WEIGHT = 0.2  # of the newest answer: the figure that the scheduling rules were tried with

# Of a load that was never seen: a SATA disk's pace. Most are faster, and an estimate may be
# corrected to sooner but not to later.
BYTES_PER_SECOND = 4e8
UNKNOWN_LOAD = 5.0  # seconds, for the planner's arithmetic only; never told to anybody
KV_BYTES = 2  # of one number in the KV cache: F16
BELOW_READY = 0.99  # the most that is told of a load which is not ready
NEARLY_ALL = 0.95  # of an engine's report: one that ends earlier says nothing of what it covers

# What comes later than was promised by no more than this is left as it was: a fifth of what is
# left, and the time between two reports of llama.cpp.
SLACK, BETWEEN_REPORTS = 0.2, 0.2

COMPUTE = 64 * 2**20  # bytes of buffers that llama.cpp takes beside weights and KV cache


def mean(before: float | None, newest: float, weight: float) -> float:
    """Exponentially weighted: the newest counts `weight`."""
    return newest if before is None else (1 - weight) * before + weight * newest


def newest(before: tuple[float, ...], one: float) -> tuple[float, ...]:
    return (*before, round(one, 4))[-KEPT:]


@lru_cache(maxsize=256)  # asked for again and again, of a few models
def middle(measured: tuple[float, ...]) -> float | None:
    return statistics.median(measured) if measured else None


def below_ready(value: float) -> float:
    return round(min(value, BELOW_READY), 3)


@dataclass(slots=True)
class Load:
    """One load under way. Times in seconds."""

    began: float
    expected: float | None
    source: LoadSource
    share: float | None  # of the load that its engine reports on; None: it was never heard to
    _reported: float = 0.0  # by the engine, 0 to 1
    _moved_at: float = 0.0
    _told: float = 0.0  # the progress before the last report: what it says is told from there on

    def reports(self, value: float, now: float) -> bool:
        """The engine's own report. True if the load has moved; it never moves backwards."""
        if value <= self._reported:
            return False
        self._told = self.progress(now)[0] or 0.0
        self._reported, self._moved_at = min(value, 1.0), now
        return True

    def progress(self, now: float) -> tuple[float | None, ProgressSource | None]:
        """The engine's report, as far as it goes: llama.cpp says 1.0 before its KV cache and its
        warm-up are done. Before and after it, and where there is none, what loads took before."""
        known = self._is_known and self.expected
        passed = below_ready((now - self.began) / known) if known else None
        if self._reported == 0 or self._is_silent:
            return passed, "history" if known else None
        scaled = below_ready(self._scaled)
        beyond = passed if self._reported == 1 and passed else 0.0
        by_history = max(self._told, beyond)
        return (by_history, "history") if by_history > scaled else (scaled, "engine")

    def due(self) -> tuple[float | None, EtaSource | None]:
        """When it will be ready: what is expected, corrected by the pace of the engine's report
        as that grows. A guess from a file's size is worth nothing beside a pace."""
        if self.expected is not None and (self._is_silent or not self._reported):
            return self.began + self.expected, self.source
        if not self._reported:
            return None, None
        pace = (self._moved_at - self.began) / self._scaled
        weight = self._scaled if self._is_known else 1.0
        return self.began + (1 - weight) * (self.expected or 0.0) + weight * pace, "engine"

    def covered(self, ready_at: float) -> float | None:
        """The share of this load on which its engine has reported; None if nobody can say."""
        if self._reported < NEARLY_ALL or ready_at <= self.began:
            return None
        return min(1.0, (self._moved_at - self.began) / (ready_at - self.began))

    @property
    def _is_known(self) -> bool:
        return self.source == "history"

    @property
    def _is_silent(self) -> bool:
        return self._is_known and self.share is None

    @property
    def _scaled(self) -> float:
        return self._reported * (self.share or 1.0)


@dataclass(slots=True)
class Promise:
    """When something will be done, as it is told: a time is kept, or comes sooner, or is taken
    back: then nobody knows. The seconds that are left never grow."""

    source: EtaSource | None = None
    _due: float | None = None
    _least: float = math.inf  # left when the last promise was taken back

    def left(self, now: float) -> float | None:
        """Until it is done; None when nobody knows, so also when it should have been done."""
        return None if self._due is None or self._due < now else self._due - now

    def revise(self, due: float | None, source: EtaSource | None, now: float) -> None:
        """The newest estimate."""
        if due is None:
            self._take_back(now)
        elif self._due is None or due <= self._due:
            self._promise(due, source, now)
        elif due - now > (self._due - now) * (1 + SLACK) + BETWEEN_REPORTS:
            self._take_back(now)
            self._promise(due, source, now)

    def _promise(self, due: float, source: EtaSource | None, now: float) -> None:
        if due - now <= self._least:
            self._due, self.source = due, source

    def _take_back(self, now: float) -> None:
        if self._due is not None:
            self._least = min(self._least, max(0.0, self._due - now))
            self._due = self.source = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What is worth keeping of a History when a sidecar ends."""

    loads_s: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()
    stops_s: tuple[float, ...] = ()
    # The most bytes that each of its engines was seen to take, by a GPU's UUID, or `host`.
    peaks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(slots=True)
class History:
    """What was measured of one model on this box, in seconds and bytes; `share` as in Load."""

    size: int | None = None  # bytes of its file
    measured: Measured = Measured()
    service: float | None = None

    @property
    def load(self) -> float | None:
        return middle(self.measured.loads_s)

    @property
    def stop(self) -> float | None:
        return middle(self.measured.stops_s)

    def begins(self, now: float) -> Load:
        return Load(now, *self.load_estimate(), middle(self.measured.shares))

    def loaded(self, load: Load, now: float) -> None:
        before, covered = self.measured, load.covered(now)
        self.measured = replace(
            before,
            loads_s=newest(before.loads_s, now - load.began),
            shares=before.shares if covered is None else newest(before.shares, covered),
        )

    def stopped(self, took: float) -> None:
        self.measured = replace(self.measured, stops_s=newest(self.measured.stops_s, took))

    def took(self, where: str, peak: int, *, of_the_last: bool) -> None:
        """An engine's memory; `of_the_last`: of the same one, that has grown."""
        kept = self.measured.peaks.get(where, ())
        before = kept[:-1] if of_the_last else kept
        peaks = {**self.measured.peaks, where: (*before, peak)[-KEPT:]}
        self.measured = replace(self.measured, peaks=peaks)

    def served(self, took: float) -> None:
        self.service = mean(self.service, took, SERVICE_WEIGHT)

    def load_estimate(self) -> tuple[float | None, LoadSource]:
        load = self.load
        if load is not None:
            return load, "history"
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
