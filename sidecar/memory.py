"""The ledger: what each engine books, and what is left.

Rule 1: nothing is started that is not booked here first.
Rule 2: this file does no I/O, reads no clock and never awaits.

Memory comes in pools: one per GPU and one for the host. A booking says how many bytes of which
pool an engine takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from math import comb
from typing import Literal

from shared.status import MemorySource

HOST = "host"

Bytes = Mapping[str, int]  # by pool
Pools = tuple[str, ...]
NO_UUIDS: Mapping[str, str] = {}

# Choices of several GPUs that are looked at. 4 of 8 can be chosen in 70 ways, which costs the
# planner up to 30 ms, and 8 of 16 in 12,870.
CHOICES = 70


def gpu(index: int) -> str:
    return f"gpu{index}"


def on_gpus(bytes: Bytes) -> dict[str, int]:
    """Those of them that are a GPU's."""
    return {pool: size for pool, size in bytes.items() if pool != HOST}


def gpus_of(booking: Bytes) -> tuple[int, ...]:
    """The indexes of the GPUs that it takes memory of."""
    return tuple(sorted(int(pool.removeprefix("gpu")) for pool in booking if pool != HOST))


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as its driver shows it."""

    index: int
    uuid: str
    name: str
    total: int  # bytes for programs: without those that the driver keeps, where it tells them
    used: int
    utilisation: int | None  # percent; None: it does not tell, for example under MIG
    vendor: Literal["nvidia", "amd"] = "nvidia"
    ordinal: int | None = None  # among its maker's, where programs know it by no UUID


@dataclass(frozen=True, slots=True)
class Host:
    total: int
    used: int
    free: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What is really there, whoever uses it. `problem`: what could not be read, in words."""

    host: Host
    gpus: tuple[Gpu, ...] = ()
    problem: str | None = None
    # What the processes of one session take of each pool, by the process that leads it, as far as
    # the drivers tell: where NVML's pids are not ours there is no entry for its GPUs, never a zero.
    uses: Mapping[int, Bytes] = field(default_factory=dict)
    drivers: Mapping[str, str] = field(default_factory=dict)  # "ok", or why it shows no GPU
    no_gpus: bool = False  # all drivers have said so, at their last answer
    # When the reading of it began, by the monotonic clock: it tells nothing of what came later.
    at: float = field(default=math.inf, compare=False)

    @property
    def trouble(self) -> str | None:
        """Why there may be GPUs that are not seen."""
        return None if self.no_gpus else self.problem


@dataclass(frozen=True, slots=True)
class Need:
    """What a model needs. None: unknown, so it takes the whole box."""

    bytes: int | None
    source: MemorySource
    on_host: bool  # an engine that uses no GPU
    # How many, evenly, or which ones, by index or UUID, in the order in which the engine is to see
    # them. None: any one, or the host where there is none.
    gpus: int | tuple[int | str, ...] | None = None


def capacity(seen: Memory, limit: int | None) -> Bytes:
    """What engines may take: every GPU, and of the host `limit` bytes or 90 %."""
    host = limit if limit is not None else seen.host.total * 9 // 10
    return {gpu(g.index): g.total for g in seen.gpus} | {HOST: host}


def uuids(seen: Memory) -> dict[str, str]:
    """The pool of each GPU by its UUID."""
    return {g.uuid: gpu(g.index) for g in seen.gpus}


def with_lost(now: Bytes, before: Bytes) -> Bytes:
    """What engines may take now. Of a GPU that was there before and is not now, nothing: a box
    that has lost one is not a box that has none, where engines run on the host."""
    return {**dict.fromkeys(before, 0), **now}


def placements(
    need: Need, capacity: Bytes, uuids: Mapping[str, str] = NO_UUIDS, *, blind: bool = False
) -> tuple[Bytes, ...]:
    """Each way in which the box could ever hold it; none if it can never fit. `blind`: there may
    be GPUs that are not seen."""
    pools = _choices(need, capacity, uuids, blind)
    bookings = (_booking(need, each, capacity) for each in pools)
    return tuple(booking for booking in bookings if fits(booking, capacity))


def _choices(need: Need, capacity: Bytes, uuids: Mapping[str, str], blind: bool) -> Iterable[Pools]:
    there = _usable(capacity)
    if _on_host(need, capacity, blind):
        return [tuple(capacity) if need.bytes is None else (HOST,)]
    match need.gpus:
        case None if need.bytes is None:
            return [tuple(capacity)] if there else []
        case None:
            return [(pool,) for pool in there]
        case int(count):
            return _sets(there, count)
        case names:
            pools = tuple(_pool(name, uuids) for name in names)
            return [pools] if set(pools) <= set(there) and len(set(pools)) == len(pools) else []


def _sets(pools: Pools, count: int) -> Iterable[Pools]:
    """All of so many, or, of very many, neighbours: these have the fastest way to each other."""
    if comb(len(pools), count) <= CHOICES:
        return combinations(pools, count)
    return [pools[first : first + count] for first in range(len(pools) - count + 1)]


def _booking(need: Need, pools: Pools, capacity: Bytes) -> Bytes:
    """Evenly, or all that they have."""
    if need.bytes is None:
        return {pool: capacity[pool] for pool in pools}
    return dict.fromkeys(pools, _each(need.bytes, len(pools)))


def _on_host(need: Need, capacity: Bytes, blind: bool) -> bool:
    """Also what may have any GPU, on a box that is known to have none and has lost none."""
    return need.on_host or (need.gpus is None and not blind and capacity.keys() <= {HOST})


def _usable(capacity: Bytes) -> Pools:
    return tuple(pool for pool, size in capacity.items() if pool != HOST and size)


def _pool(name: int | str, uuids: Mapping[str, str]) -> str:
    return gpu(name) if isinstance(name, int) else uuids.get(name, name)


def _each(size: int, count: int) -> int:
    return -(-size // count)


def does_not_fit(
    need: Need, capacity: Bytes, uuids: Mapping[str, str] = NO_UUIDS, *, blind: bool = False
) -> str:
    """The sum, in words, for a model without any placement."""
    if _on_host(need, capacity, blind):
        assert need.bytes is not None, "the whole box holds what nobody knows"
        return f"needs {gib(need.bytes)}, the limit for engines is {gib(capacity[HOST])}"
    if isinstance(need.gpus, tuple):
        return _not_on(need.gpus, need.bytes, capacity, uuids)
    return _not_on_any(need.gpus or 1, need.bytes, capacity)


def _not_on_any(count: int, size: int | None, capacity: Bytes) -> str:
    there = [capacity[pool] for pool in _usable(capacity)]
    if len(there) < count or size is None:
        wanted = "a GPU" if count == 1 else f"{count} GPUs"
        return f"needs {wanted}, this box has {len(there) or 'none'}"
    if count == 1:
        return f"needs {gib(size)}, the largest GPU has {gib(max(there))}"
    each = _each(size, count)
    enough = sum(it >= each for it in there)
    return (
        f"needs {gib(each)} on each of {count} GPUs, "
        f"{enough or 'none'} of the {len(there)} here has that much"
    )


def _not_on(
    names: tuple[int | str, ...], size: int | None, capacity: Bytes, uuids: Mapping[str, str]
) -> str:
    by_pool = {_pool(name, uuids): _spoken(name) for name in names}
    missing = [said for pool, said in by_pool.items() if pool not in _usable(capacity)]
    if missing:
        return f"needs {' and '.join(missing)}, which cannot be seen"
    if size is None or len(by_pool) < len(names):
        return "names one GPU by its index and by its UUID"
    each = gib(_each(size, len(names)))
    least = gib(min(capacity[pool] for pool in by_pool))
    if len(names) == 1:
        return f"needs {each} on {_spoken(names[0])}, which has {least}"
    whom = " and ".join(by_pool.values())
    return f"needs {each} on each of {whom}, the smallest of which has {least}"


def _spoken(name: int | str) -> str:
    return f"GPU {name}" if isinstance(name, int) else name


def fits(booking: Bytes, room: Bytes) -> bool:
    return all(size <= room.get(pool, 0) for pool, size in booking.items())


def add(bookings: Iterable[Bytes]) -> dict[str, int]:
    total: dict[str, int] = {}
    for booking in bookings:
        for pool, size in booking.items():
            total[pool] = total.get(pool, 0) + size
    return total


def subtract(room: Bytes, taken: Bytes) -> dict[str, int]:
    return {pool: size - taken.get(pool, 0) for pool, size in room.items()}


def gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
