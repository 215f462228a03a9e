"""NVIDIA's GPUs, as NVML tells of them: a driver may come, go and fail while we run.

Rule: this file reads and decides nothing. What cannot be read is left out and told in words; it
is never a zero and never an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pynvml

from sidecar.gpus import Found, Taken
from sidecar.memory import Gpu

NO_LIBRARY = "no library: there is no libnvidia-ml.so.1"


class NvmlGpus:
    def __init__(self) -> None:
        self.count = 0  # of the last read that told it, those that are lost among them
        self._problems: list[str] = []
        self._initialised = False

    def read(self) -> Found:
        self._problems = []
        gpus: list[Gpu] = []
        taken: dict[str, Taken] = {}
        try:
            for index in range(self._count()):
                with self._problem_of(f"GPU {index}: "):
                    device = pynvml.nvmlDeviceGetHandleByIndex(index)
                    by_pid = _taken(device)  # first: see `gpus.Found`
                    gpus.append(_gpu(index, device))
                    taken[gpus[-1].uuid] = by_pid
        except pynvml.NVMLError_LibraryNotFound:
            return Found(NO_LIBRARY)  # no problem of a box that has no such GPU
        problem = "; ".join(self._problems) or None
        if problem:
            self._shut_down()
        return Found(problem or "ok", tuple(gpus), taken, problem)

    def _count(self) -> int:
        with self._problem_of(""):
            if not self._initialised:
                pynvml.nvmlInit()
                self._initialised = True
            if count := int(pynvml.nvmlDeviceGetCount()):
                self.count = count
                return count
            self._problems.append("the NVIDIA driver finds no GPU")
        return 0

    @contextmanager
    def _problem_of(self, subject: str) -> Iterator[None]:
        try:
            yield
        except pynvml.NVMLError_LibraryNotFound:
            raise
        except pynvml.NVMLError as error:
            self._problems.append(subject + _in_words(error))

    def _shut_down(self) -> None:
        """NVML finds GPUs when it is initialised, so only a new start sees one that came back.
        Besides, a driver cannot be reloaded while somebody holds it."""
        if self._initialised:
            with suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()
            self._initialised = False


def _gpu(index: int, device: Any) -> Gpu:
    total, used = _memory_of(device)
    return Gpu(
        index=index,
        uuid=pynvml.nvmlDeviceGetUUID(device),
        name=pynvml.nvmlDeviceGetName(device),
        total=total,
        used=used,
        utilisation=_utilisation_of(device),
    )


def _memory_of(device: Any) -> tuple[int, int]:
    """Total and used, whose difference is what is free. The newer call tells what the driver
    keeps for itself; the older one, before driver 510, counts that as used."""
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(device, version=pynvml.nvmlMemory_v2)
    except (pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_ArgumentVersionMismatch):
        memory = pynvml.nvmlDeviceGetMemoryInfo(device)
        return memory.total, memory.used
    return memory.total - memory.reserved, memory.used


def _utilisation_of(device: Any) -> int | None:
    with suppress(pynvml.NVMLError_NotSupported):
        return int(pynvml.nvmlDeviceGetUtilizationRates(device).gpu)
    return None


def _taken(device: Any) -> Taken:
    """As far as the driver tells, which is less in a container, in a virtual machine and before
    driver 510. A process that draws and computes is in both lists, with all that it takes."""
    lists: tuple[Callable[[Any], list[Any]], ...] = (  # without _v3 they raise what is no NVMLError
        pynvml.nvmlDeviceGetComputeRunningProcesses_v3,
        pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3,
    )
    taken: dict[int, int | None] = {}
    for listed in lists:
        with suppress(pynvml.NVMLError):
            taken |= {process.pid: process.usedGpuMemory for process in listed(device)}
    return taken


def _in_words(error: pynvml.NVMLError) -> str:
    match error.value:
        case pynvml.NVML_ERROR_DRIVER_NOT_LOADED:
            return "the NVIDIA driver is not loaded"
        case pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
            return (
                "the NVIDIA driver and its library differ in version, "
                "as after an update of the driver without a restart of the box"
            )
        case pynvml.NVML_ERROR_NO_PERMISSION:
            return "the NVIDIA driver does not permit us to look: see who may open /dev/nvidia*"
        case pynvml.NVML_ERROR_OPERATING_SYSTEM:
            return "the operating system keeps it from us, as a container does without its devices"
        case pynvml.NVML_ERROR_GPU_IS_LOST:
            return "lost: it does not answer on the bus any more"
        case pynvml.NVML_ERROR_RESET_REQUIRED:
            return "it must be reset before it can be used again"
        case _:
            return f"NVML says: {error}"
