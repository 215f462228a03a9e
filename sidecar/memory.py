"""The ledger: what each engine books, and what is left.

Rule 1: nothing is started that is not booked here first.
Rule 2: this file does no I/O, reads no clock and never awaits.

Memory comes in pools: one per GPU and one for the host. A booking says how many bytes of which
pool an engine takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from shared.status import MemorySource

HOST = "host"

Bytes = Mapping[str, int]  # by pool


def gpu(index: int) -> str:
    return f"gpu{index}"


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
    # the drivers tell.
    uses: Mapping[int, Bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Need:
    """What a model needs. None: unknown, so it takes the whole box."""

    bytes: int | None
    source: MemorySource
    on_host: bool  # an engine that uses no GPU


def capacity(seen: Memory, limit: int | None) -> Bytes:
    """What engines may take: every GPU, and of the host `limit` bytes or 90 %."""
    host = limit if limit is not None else seen.host.total * 9 // 10
    return {gpu(g.index): g.total for g in seen.gpus} | {HOST: host}


def strangers(seen: Memory, booked: Bytes) -> Bytes:
    """What others use of the GPUs: all that we have not booked."""
    return {gpu(g.index): max(0, g.used - booked.get(gpu(g.index), 0)) for g in seen.gpus}


def placements(need: Need, capacity: Bytes) -> tuple[Bytes, ...]:
    """Each way in which the box could ever hold it; none if it can never fit."""
    if need.bytes is None:
        return (dict(capacity),)
    pools = [pool for pool in capacity if pool != HOST]
    if need.on_host or not pools:
        pools = [HOST]
    return tuple({pool: need.bytes} for pool in pools if need.bytes <= capacity[pool])


def does_not_fit(need: Need, capacity: Bytes) -> str:
    """The sum, in words, for a model without any placement."""
    assert need.bytes is not None, "an unknown need always fits"
    gpus = [size for pool, size in capacity.items() if pool != HOST]
    if need.on_host or not gpus:
        return f"needs {gib(need.bytes)}, the limit for engines is {gib(capacity[HOST])}"
    return f"needs {gib(need.bytes)}, the largest GPU has {gib(max(gpus))}"


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
