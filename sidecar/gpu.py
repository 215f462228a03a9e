"""What memory this box has: the drivers know that of its GPUs, psutil its own.

Rule: this file reads and decides nothing. What cannot be read is left out and is a problem in
words; it is never a zero and never an exception.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future
from dataclasses import replace
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Protocol, Self

import psutil
import structlog

from sidecar import sessions
from sidecar.amd import DRM, AmdGpus
from sidecar.gpus import Found, numbered, uses
from sidecar.memory import HOST, Gpu, Host, Memory, gpu
from sidecar.nvml import NvmlGpus

log = structlog.get_logger()

# A healthy driver answers within milliseconds; one in trouble may take minutes, or never answer.
DEADLINE_SECONDS = 2.0


class MemoryDriver(Protocol):
    reading: str  # who is asked now, in words

    def read(self, leaders: frozenset[int]) -> Memory:
        """With what the sessions of these processes take. May block as long as a driver does."""
        ...


class SystemMemory:
    """What this box really has."""

    def __init__(self, amd: Path = DRM) -> None:
        self._nvml = NvmlGpus()
        self._amd = AmdGpus(amd)
        self._numbers: dict[str, int] = {}
        self.reading = ""

    def read(self, leaders: frozenset[int]) -> Memory:
        self.reading = "NVML"
        nvidia = self._nvml.read()
        self.reading = "the AMD driver"
        amd = self._amd.read()
        self.reading = "the kernel"
        gpus = self._numbered(nvidia, amd)
        engines = sessions.of(leaders)
        taken = {gpu(it.index): {**nvidia.taken, **amd.taken}.get(it.uuid, {}) for it in gpus}
        problem = "; ".join(p for p in (nvidia.problem, amd.problem) if p) or None
        return Memory(
            _host(),
            gpus,
            problem,
            uses(engines, {**taken, HOST: sessions.resident(chain(*engines.values()))}),
            {"nvidia": nvidia.state, "amd": amd.state},
            no_gpus=not gpus and problem is None,
        )

    def _numbered(self, nvidia: Found, amd: Found) -> tuple[Gpu, ...]:
        """NVIDIA's first, those that are lost now among them, then AMD's."""
        after = [replace(it, index=it.index + self._nvml.count) for it in amd.gpus]
        gpus = [*nvidia.gpus, *after]
        self._numbers = numbered(gpus, self._numbers)
        return tuple(
            sorted((replace(g, index=self._numbers[g.uuid]) for g in gpus), key=lambda g: g.index)
        )


class MemoryReader:
    """Reads in a thread of its own, since a driver may hang: that must stop neither the event loop
    nor, as an executor's thread would, the end of the program. A read that hangs is the only one
    until it returns."""

    def __init__(self, driver: MemoryDriver, deadline: float = DEADLINE_SECONDS) -> None:
        self._driver = driver
        self._deadline = deadline
        self._last = Memory(_host(), (), None)
        self._asked: SimpleQueue[tuple[frozenset[int], Future[Memory]] | None] = SimpleQueue()
        self._reading: asyncio.Future[Memory] | None = None
        self._due = 0.0
        self._logged: dict[str, str] = {}  # by driver
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
        if not self.hangs:
            self._thread.join()

    async def read(self, leaders: frozenset[int]) -> Memory:
        """What there is now, with what the sessions of these processes take. While a driver does
        not answer: what its GPUs last were, and that it does not."""
        loop = asyncio.get_running_loop()
        if self._reading is None or self._reading.done():
            self._due = loop.time() + self._deadline
            self._reading = asyncio.wrap_future(self._ask(leaders))
        await asyncio.wait({self._reading}, timeout=self._due - loop.time())
        if self.hangs:
            silence = f"{self._driver.reading} has not answered for {self._deadline:g} s"
            return replace(self._last, host=_host(), problem=silence)
        self._last = self._reading.result()
        self._log_drivers()
        return self._last

    @property
    def hangs(self) -> bool:
        """Whether the last read has not returned yet."""
        return self._reading is not None and not self._reading.done()

    def _ask(self, leaders: frozenset[int]) -> Future[Memory]:
        reading: Future[Memory] = Future()
        reading.set_running_or_notify_cancel()  # a caller that gives up does not cancel it
        self._asked.put((leaders, reading))
        return reading

    def _log_drivers(self) -> None:
        """When it changes: also that there is none, which is no problem of a box without GPUs."""
        for driver, state in self._last.drivers.items():
            if self._logged.get(driver) != state:
                self._logged[driver] = state
                log.info("driver", driver=driver, state=state)

    def _serve(self) -> None:
        while (asked := self._asked.get()) is not None:
            leaders, reading = asked
            try:
                began = time.monotonic()
                reading.set_result(replace(self._driver.read(leaders), at=began))
            except Exception as error:  # noqa: BLE001 - it is raised where the result is awaited
                reading.set_exception(error)


def _host() -> Host:
    memory = psutil.virtual_memory()
    return Host(memory.total, memory.total - memory.available, memory.available)
