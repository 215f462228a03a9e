"""What an earlier sidecar has left running: which of its engines serve on, and which are of no use.

An engine is taken over if it is still the process that was written down, was started for what the
config says now, listens on its port and answers. Anything else of ours is to end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import httpx
import structlog

from sidecar import elsewhere, health
from sidecar.engines.launch import Launch
from sidecar.kin import Kin
from sidecar.launcher import Launcher
from sidecar.launches import Launched, Launches
from sidecar.memory import Gpu
from sidecar.process import Process
from sidecar.state import StateFolder

ANSWERS_WITHIN = 1.0  # seconds: an engine that is busy answers its health all the same
STOPS_WITHIN = 10.0  # seconds, as `docker stop` takes at most by default

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
    left = launches.left()
    known = {model: it for model, it in left.items() if launcher.knows(model)}
    looks = (_look(model, it, launcher, there, http) for model, it in known.items())
    seen = dict(zip(known, await asyncio.gather(*looks), strict=True))
    found = {model: it for model, it in seen.items() if it is not None}
    for model, it in found.items():
        because = "taken over" if it.serves else "left behind, and of no use"
        log.info("engine", model=model, pid=it.process.pid, because=because)
    await _end_the_rest(folder, [it for m, it in left.items() if m not in found], found.values())
    for model in left.keys() - found.keys():
        launches.ended(model)
    folder.keep_fifos({it.launched.id for it in found.values()})
    return found


async def _end_the_rest(
    folder: StateFolder, others: Collection[Launched], kept: Collection[Found]
) -> None:
    """Engines of models that the config does not know any more, and what nobody wrote down: by
    force, as nobody can say any more what they were to be."""
    await asyncio.gather(*(_stop_elsewhere(it) for it in others if it.stop_command))
    marks = [folder.mark(it.launched.id) for it in kept]
    strays = Kin(folder.marks, [it.process for it in others], but=marks)
    for who in strays.living():
        log.warning("a process of an earlier sidecar's engine is ended", pid=who.pid)
    strays.end()


async def _stop_elsewhere(launched: Launched) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(STOPS_WITHIN):
            await elsewhere.stop(launched.stop_command)


async def _look(
    model: str,
    launched: Launched,
    launcher: Launcher,
    there: Sequence[Gpu],
    http: httpx.AsyncClient,
) -> Found | None:
    process = Process.adopt(launched.process, launcher.mark(launched.id))
    if process is None:
        return None
    launch = launcher.launch(model, launched.id, launched.port, launched.booking, there)
    good = launched.serves and launched.process.lives and launcher.is_same(model, launched, there)
    if good and await _answers(launch, process, http):
        return Found(launched, launch, process, serves=True)
    as_then = replace(launch, stop_command=launched.stop_command)
    return Found(launched, as_then, process, serves=False)


async def _answers(launch: Launch, process: Process, http: httpx.AsyncClient) -> bool:
    ours = health.listens(launch, process)
    return ours and await health.says(launch, http, ANSWERS_WITHIN) is True
