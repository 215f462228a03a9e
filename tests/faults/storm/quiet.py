"""The end of a storm: all that was asked is over, and nothing is left of it.

Rule: it is waited for, and what was waited for in vain is a breach.
"""

import signal
import time
from collections.abc import Awaitable, Callable

import httpx
import psutil

from tests.faults.storm import processes
from tests.faults.storm.box_history import right
from tests.faults.storm.fleet import Box, Fleet
from tests.faults.storm.history import History
from tests.faults.storm.seat import Seat
from tests.harness import ours, until

WITHIN = 30.0  # seconds
NO_ANSWER = (httpx.HTTPError, ValueError, LookupError, FileNotFoundError)  # or none that helps
MORE_FILES = 4  # connections that are kept, and looks at the moment
GUARD = "/sidecar/guard.py"


async def quiet(fleet: Fleet, history: History) -> None:
    """Nobody asks any more: each slot is free, each line is empty, and what runs is known."""
    for name, box in fleet.boxes.items():
        await _wait(history, f"box {name} is quiet", lambda box=box: _is_quiet(box))
    for name, seat in fleet.routers.items():
        await _wait(history, f"the line of router {name} is empty", lambda seat=seat: _empty(seat))


async def unloaded(fleet: Fleet, history: History, files: dict[str, int]) -> None:
    """No engine is left, nor a child of one; files are as they were before the first request."""
    known = {seat.pid for seat in fleet.routers.values()}
    known |= {box.seat.pid for box in fleet.boxes.values()}
    for box in fleet.boxes.values():
        await without_engines(box, history)
    await nobody_else(history, known)
    for name, seat in fleet.steady.items():

        async def flat(pid: int = seat.pid, name: str = name) -> str:
            now = processes.files(pid)
            return "" if now <= files[name] + MORE_FILES else f"{now} files, {files[name]} at first"

        await _wait(history, f"the {name} has no more files than at first", flat)


async def without_engines(box: Box, history: History) -> None:
    await _wait(history, f"box {box.history.name} has no engine", lambda: _unload(box))


async def nobody_else(history: History, known: set[int]) -> None:
    """Of all the processes that we caused there are these, and their guards."""
    await _wait(history, "no process is left", lambda: _none(strangers(known)))


async def _wait(history: History, what: str, left: Callable[[], Awaitable[str]]) -> None:
    said = ""

    async def nothing() -> bool:
        nonlocal said
        try:
            said = await left()
        except NO_ANSWER as failure:
            said = repr(failure)
        return not said

    try:
        await until(nothing, WITHIN)
    except AssertionError:
        history.breach(f"not within {WITHIN:g} s: {what}", "", time.monotonic(), said)


async def _is_quiet(box: Box) -> str:
    """What is not, in words."""
    status = await box.status()
    models = {model["id"]: model for model in status["models"]}
    busy = [id for id, model in models.items() if model["in_flight"] or model["waiting"]]
    if busy:
        return f"busy: {busy}"
    living = box.engines.living()
    if not right(models, living):
        return f"{ {id: model['phase'] for id, model in models.items()} } with {living}"
    zombies = processes.zombies(box.seat.pid)
    return f"zombies: {zombies}" if zombies else ""


async def _empty(seat: Seat) -> str:
    async with seat.client() as http:
        line = (await http.get("/api/fleet")).json()["line"]
    return str(line) if line else ""


async def _unload(box: Box) -> str:
    status = await box.status()
    loaded = [model["id"] for model in status["models"] if model["phase"] != "idle"]
    for model in loaded:
        await box.load(model, "unload")
    booked = [row for row in status["memory"] if row["reserved"]]
    if loaded or booked:
        return f"loaded: {loaded}, booked: {booked}"
    left = {model: pids for model, pids in box.engines.living().items() if any(pids)}
    return f"idle, and runs: {left}" if left else ""


async def _none(left: list[str]) -> str:
    return ", ".join(left)


def strangers(known: set[int]) -> list[str]:
    """Processes that we caused and that are neither a program of ours nor its guard."""
    found = []
    for process in ours():
        try:
            command = " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            continue
        if process.pid not in known and GUARD not in command:
            found.append(f"{process.pid} {command[-100:] or process.status()}")
    return found


async def nothing_is_left(history: History) -> None:
    """All programs have ended; a guard may need a moment more."""
    await _wait(history, "nothing is left", lambda: _none([str(p.pid) for p in ours()]))
    for process in ours():
        processes.send(process.pid, signal.SIGKILL)
