"""Which GPU is which: its number, what its programs are told of it, and what they take of it.

Rule: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sidecar.memory import Bytes, Gpu, gpu

Taken = Mapping[int, int | None]  # bytes by pid; None: the driver lists it and tells no use

# ROCm applies both variables, and numbers for HIP what ROCR has left.
CUDA, ROCR, HIP = "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Found:
    """What one driver tells of its GPUs. `state` is "ok", or says why there are none or fewer;
    `problem` says it again where somebody should see to it.

    A driver is asked for what its processes take before it is asked for what is used. What is taken
    in between then looks like strangers' until the next look, and hides none of theirs."""

    state: str
    gpus: tuple[Gpu, ...] = ()
    taken: Mapping[str, Taken] = field(default_factory=dict)  # by the GPU's UUID
    problem: str | None = None


def numbered(gpus: Iterable[Gpu], numbers: Mapping[str, int]) -> dict[str, int]:
    """By UUID: the number of each GPU that was ever seen. It gets the one that it wishes for, if
    that is free, and keeps it: engines are booked on it, so one that comes late moves no other."""
    known = dict(numbers)
    for it in gpus:
        taken = known.values()
        if it.uuid not in known:
            known[it.uuid] = it.index if it.index not in taken else max(taken) + 1
    return known


def visible(booking: Bytes, gpus: Sequence[Gpu], *, on_host: bool) -> dict[str, str]:
    """The variables that show an engine the GPUs of its booking, in that order, and no others.

    NVIDIA's by UUID, since CUDA and NVML number cards differently. Who books on the host sees none,
    also while a driver fails and shows none to us; to others nothing is said of a maker's GPUs
    while none of them is seen.
    """
    if on_host:
        return {CUDA: "", ROCR: "", HIP: ""}
    by_pool = {gpu(it.index): it for it in gpus}
    booked = [by_pool[pool] for pool in booking if pool in by_pool]
    makers = {it.vendor for it in gpus}
    told = {}
    if "nvidia" in makers:
        told[CUDA] = _names(it for it in booked if it.vendor == "nvidia")
    if "amd" in makers:
        amd = [it for it in booked if it.vendor == "amd"]
        told[ROCR] = _names(amd)
        told[HIP] = ",".join(str(n) for n in range(len(amd)))
    return told


def _names(gpus: Iterable[Gpu]) -> str:
    return ",".join(it.uuid if it.ordinal is None else str(it.ordinal) for it in gpus)


def uses(sessions: Mapping[int, Sequence[int]], taken: Mapping[str, Taken]) -> dict[int, Bytes]:
    """By leader and pool: what all processes of its session take. A pool on which none of them is
    listed is left out, and so is one where any of them is listed without its use: part of a sum
    would look like all of it."""
    return {
        leader: {
            pool: sum(each)
            for pool, by_pid in taken.items()
            if (listed := [by_pid[pid] for pid in pids if pid in by_pid])
            and len(each := [use for use in listed if use is not None]) == len(listed)
        }
        for leader, pids in sessions.items()
    }
