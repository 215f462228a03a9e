"""What memory this box has: NVML knows that of its GPUs, psutil its own.

Rule: this file reads and decides nothing. What cannot be read is left out and is a problem in
words; it is never a zero and never an exception.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import replace
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, Protocol, Self

import psutil
import pynvml

from sidecar.memory import Gpu, Host, Memory

# A healthy driver answers within milliseconds; one in trouble may take minutes, or never answer.
DEADLINE_SECONDS = 2.0


class MemorySource(Protocol):
    def read(self) -> Memory:
        """May block for as long as a driver does."""
        ...


class SystemMemory:
    """What this box really has."""

    def __init__(self) -> None:
        self._nvml = NvmlGpus()

    def read(self) -> Memory:
        gpus = tuple(self._nvml.read())
        return Memory(_host(), gpus, self._nvml.problem)


class NvmlGpus:
    """The GPUs of NVIDIA's driver, which may come, go and fail while we run."""

    def __init__(self) -> None:
        self.problem: str | None = None  # of the last read
        self._problems: list[str] = []
        self._initialised = False

    def read(self) -> list[Gpu]:
        self._problems = []
        gpus = []
        for index in range(self._count()):
            with self._problem_of(f"GPU {index}: "):
                gpus.append(_gpu(index))
        self.problem = "; ".join(self._problems) or None
        if self.problem:
            self._shut_down()
        return gpus

    def _count(self) -> int:
        with self._problem_of(""), suppress(pynvml.NVMLError_LibraryNotFound):
            if not self._initialised:
                pynvml.nvmlInit()
                self._initialised = True
            if count := int(pynvml.nvmlDeviceGetCount()):
                return count
            self._problems.append("the NVIDIA driver finds no GPU")
        return 0

    @contextmanager
    def _problem_of(self, subject: str) -> Iterator[None]:
        try:
            yield
        except pynvml.NVMLError as error:
            self._problems.append(subject + _in_words(error))

    def _shut_down(self) -> None:
        """NVML finds GPUs when it is initialised, so only a new start sees one that came back.
        Besides, a driver cannot be reloaded while somebody holds it."""
        if self._initialised:
            with suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()
            self._initialised = False


class MemoryReader:
    """Reads in a thread of its own, since a driver may hang: that must stop neither the event loop
    nor, as an executor's thread would, the end of the program. A read that hangs is the only one
    until it returns."""

    def __init__(self, source: MemorySource, deadline: float = DEADLINE_SECONDS) -> None:
        self._source = source
        self._deadline = deadline
        self._last = Memory(_host(), (), None)
        self._asked: SimpleQueue[Future[Memory] | None] = SimpleQueue()
        self._reading: Future[Memory] | None = None
        self._due = 0.0
        self._thread = Thread(target=self._serve, name="memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._asked.put(None)
        if self._reading is None or self._reading.done():
            self._thread.join()

    async def read(self) -> Memory:
        """What there is now, or what there last was and that NVML does not answer."""
        if self._reading is None or self._reading.done():
            self._due = asyncio.get_running_loop().time() + self._deadline
            self._reading = self._ask()
        try:
            async with asyncio.timeout_at(self._due):
                self._last = await asyncio.wrap_future(self._reading)
        except TimeoutError:
            return replace(self._last, problem=f"NVML has not answered for {self._deadline:g} s")
        return self._last

    def _ask(self) -> Future[Memory]:
        reading: Future[Memory] = Future()
        reading.set_running_or_notify_cancel()  # a caller that gives up does not cancel it
        self._asked.put(reading)
        return reading

    def _serve(self) -> None:
        while (reading := self._asked.get()) is not None:
            try:
                reading.set_result(self._source.read())
            except Exception as error:  # noqa: BLE001 - it is raised where the result is awaited
                reading.set_exception(error)


def _host() -> Host:
    memory = psutil.virtual_memory()
    return Host(memory.total, memory.total - memory.available, memory.available)


def _gpu(index: int) -> Gpu:
    device = pynvml.nvmlDeviceGetHandleByIndex(index)
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


def _in_words(error: pynvml.NVMLError) -> str:
    match error.value:
        case pynvml.NVML_ERROR_DRIVER_NOT_LOADED:
            return "the NVIDIA driver is not loaded"
        case pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
            return (
                "the NVIDIA driver and its library differ in version, "
                "as after an update of the driver without a restart of the box"
            )
        case pynvml.NVML_ERROR_GPU_IS_LOST:
            return "lost: it does not answer on the bus any more"
        case _:
            return f"NVML says: {error}"
