"""What a model needs, by pool: declared, else measured before, else estimated, else the whole box.

Rule 1: on a GPU a measured need replaces an estimate, as llama.cpp and vLLM take what they take
before they are ready. On the host it never lowers one: there the use grows with the context.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

from shared.status import MemorySource
from sidecar.memory import HOST, Bytes, Need, gib, on_gpus

Placements = tuple[Bytes, ...]


def learned(
    need: Need, guesses: Placements, capacity: Bytes, peaks: Bytes
) -> tuple[Placements, MemorySource]:
    """Each way in which the box could ever hold it, by what was measured where it was. What has
    run here fits here, whatever a measurement has counted in."""
    known = {pool: min(size, capacity[pool]) for pool, size in peaks.items() if pool in capacity}
    if need.source == "declared":
        return guesses, need.source
    if need.bytes is None:
        measured = tuple(one for guess in guesses if (one := _measured_on(guess, known)))
        return (measured, "learned") if measured else (guesses, need.source)
    sized = tuple({p: _need(p, size, known) for p, size in guess.items()} for guess in guesses)
    by_measurement = any(known.get(p) == size for one in sized for p, size in one.items())
    return sized, "learned" if by_measurement else need.source


def _measured_on(pools: Bytes, known: Bytes) -> Bytes | None:
    """What it took where it might have taken all. Only the whole box is more than it may use."""
    gpus = {pool: size for pool, size in known.items() if size and pool in on_gpus(pools)}
    if HOST not in pools:
        return gpus if gpus.keys() == pools.keys() else None
    return gpus or ({HOST: known[HOST]} if known.get(HOST) else None)


def corrected(need: Need, booking: Bytes, peak: Bytes) -> Bytes:
    """The booking of an engine that is ready and was seen to take this at most."""
    gpus = {pool: size for pool, size in on_gpus(peak).items() if size}
    if need.source == "declared":
        return booking
    if need.bytes is not None:
        return {**{pool: _need(pool, size, peak) for pool, size in booking.items()}, **gpus}
    return gpus or ({HOST: peak[HOST]} if HOST in booking and peak.get(HOST) else booking)


def _need(pool: str, guess: int, peaks: Bytes) -> int:
    measured = peaks.get(pool, 0)
    return max(guess, measured) if pool == HOST else measured or guess


def shortage(booking: Bytes, capacity: Bytes, strangers: Bytes, pinned: Bytes) -> dict[str, int]:
    """What it lacks even if everybody leaves that may ever be told to."""
    taken = {p: strangers.get(p, 0) + pinned.get(p, 0) for p in booking}
    lacks = {p: size + taken[p] - capacity.get(p, 0) for p, size in booking.items()}
    return {pool: size for pool, size in lacks.items() if size > 0}


def has_too_little(
    booking: Bytes, pool: str, capacity: Bytes, strangers: Bytes, pinned: Bytes
) -> str:
    """The sum, in words, for a model whose room others hold."""
    total, others, ours = capacity[pool], strangers.get(pool, 0), pinned.get(pool, 0)
    holders = [f"{gib(others)} are used by others"] if others else []
    holders += [f"{gib(ours)} are booked by pinned models, which never leave"] if ours else []
    has = gib(max(0, total - others - ours))
    sum = f"needs {gib(booking[pool])}, {name_of(pool)} has {has} of {gib(total)}"
    return f"{sum}: {' and '.join(holders)}"


def name_of(pool: str) -> str:
    return "the host" if pool == HOST else f"GPU {pool.removeprefix('gpu')}"
