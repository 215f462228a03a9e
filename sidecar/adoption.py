"""What an earlier sidecar has left running: which of its engines serve on, and which are of no use.

An engine is taken over if it is still the process that was written down, was started for what the
config says now, listens on its port and answers. Anything else of ours is to end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import httpx
import structlog

from sidecar import health
from sidecar.engines.launch import Launch
from sidecar.kin import Kin
from sidecar.launcher import Launcher
from sidecar.launches import Launched, Launches
from sidecar.memory import Gpu
from sidecar.process import Process
from sidecar.state import StateFolder

ANSWERS_WITHIN = 1.0  # seconds: an engine that is busy answers its health all the same

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Found:
    """An engine that still runs. `serves`: it can be taken over."""

    launched: Launched
    launch: Launch
    process: Process
    serves: bool


async def take_over(
    folder: StateFolder,
    launches: Launches,
    launcher: Launcher,
    there: Sequence[Gpu],
    http: httpx.AsyncClient,
) -> dict[str, Found]:
    """By model, what still runs of that which was written down. `there`: the GPUs."""
    left = {m: it for m, it in launches.left().items() if launcher.knows(m)}
    looks = (_look(model, it, launcher, there, http) for model, it in left.items())
    seen = dict(zip(left, await asyncio.gather(*looks), strict=True))
    found = {model: it for model, it in seen.items() if it is not None}
    for model, it in found.items():
        because = "taken over" if it.serves else "left behind, and of no use"
        log.info("engine", model=model, pid=it.process.pid, because=because)
    for model in launches.left().keys() - found.keys():
        launches.ended(model)
    _end_the_rest(folder, [folder.mark(it.launched.id) for it in found.values()])
    folder.keep_fifos({it.launched.id for it in found.values()})
    return found


def _end_the_rest(folder: StateFolder, kept: Collection[str]) -> None:
    """By force: nobody can say any more what they were to be."""
    strays = Kin(folder.marks, but=kept)
    for who in strays.living():
        log.warning("a process of an earlier sidecar's engine is ended", pid=who.pid)
    strays.end()


async def _look(
    model: str,
    launched: Launched,
    launcher: Launcher,
    there: Sequence[Gpu],
    http: httpx.AsyncClient,
) -> Found | None:
    launch = launcher.launch(model, launched.id, launched.port, launched.booking, there)
    process = Process.adopt(launched.process, launcher.mark(launched.id))
    if process is None:
        return None
    same = launched.digest == launcher.digest(model, launched.booking, there)
    serves = launched.serves and same and await _answers(launch, process, http)
    return Found(launched, launch, process, serves)


async def _answers(launch: Launch, process: Process, http: httpx.AsyncClient) -> bool:
    ours = health.listens(launch, process)
    return ours and await health.says(launch, http, ANSWERS_WITHIN) is True
