"""python -m tests.faults.stops --times 500 --seed 1: stops of engines that do not want to end.

Each is a real engine of a real sidecar, stopped when it is ready or at some moment of its load.
Prints how long the stops took and what they left behind as JSON; exit status 1 if anything was left
behind, or a stop took longer than its engine's `stop_timeout` and one second.

Rule: what an engine consists of is told by its own journal and its environment, never by the
sidecar that is examined.
"""

import argparse
import json
import os
import random
import shlex
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import psutil

from sidecar.identity import Identity
from tests.harness import until
from tests.http.boxes import Box, Json, box, fake

GRACE = 1.0  # seconds: `stop_timeout` of each engine here
OVER = 1.0  # seconds that a stop may take longer than that
LOAD = 0.2  # seconds
LANES = 3  # so many engines at a time: more of them measure the machine, and not the stops
MODEL = "SWAPYARD_HOSTILE"  # in the environment of each engine, and so of most of its children

KINDS: dict[str, tuple[str, ...]] = {
    "deaf": ("--deaf",),
    "fork": ("--fork", "3"),
    "deaf-fork": ("--deaf", "--fork", "3"),
    "double-fork": ("--double-fork", "--deaf-children"),
    "setsid": ("--setsid-child", "--deaf-children"),
    "clean": ("--clean-child", "--deaf-children"),
    "deaf-setsid": ("--deaf", "--setsid-child", "--clean-child"),
    "frozen": ("--stops-itself", "--fork", "1"),
    "flood": ("--flood", "--deaf-children"),
    "crash-in-stop": ("--crash-in-stop", "--fork", "2"),
    "exits-first": ("--fork", "2", "--deaf-children"),
    "wrapper": ("--fork", "1"),
    "exec-wrapper": ("--deaf-children", "--setsid-child"),
}
WRAPPERS = {"wrapper": '"$@"; exit $?', "exec-wrapper": 'exec "$@"'}


def hostile(name: str, grace: float) -> Json:
    kind = name.rpartition(".")[0]
    model = fake(
        *KINDS[kind],
        "--load-seconds",
        str(LOAD),
        stop_timeout=grace,
        env={MODEL: name},
        slots=1,
    )
    if kind in WRAPPERS:
        model["command"] = ["sh", "-c", WRAPPERS[kind], "wrapper", *model["command"]]
    return model


@dataclass
class Stop:
    """What one took, and left behind."""

    kind: str
    seconds: float
    processes: int  # that it had when it was told to go
    left: list[str]

    def is_bad(self, grace: float = GRACE, over: float = OVER) -> bool:
        return bool(self.left) or self.seconds > grace + over


@asynccontextmanager
async def hostiles(folder: Path, *names: str, grace: float = GRACE) -> AsyncIterator[Box]:
    async with box(folder, {name: hostile(name, grace) for name in names}) as it:
        yield it


async def stop(it: Box, name: str, after: float | None = None) -> Stop:
    """One load and its stop, when it is ready or so many seconds after it began."""
    began = time.monotonic()
    assert (await it.http.post(f"/models/{name}/load")).status_code == 202
    if after is None:
        await it.until(name, "ready")
    else:
        await it.until(name, "starting")
        await anyio.sleep(after)
    family = family_of(it, name, began)
    told_at = time.monotonic()
    assert (await it.http.post(f"/models/{name}/unload")).status_code == 202
    await it.until(name, "idle")
    seconds = time.monotonic() - told_at
    family |= family_of(it, name, began)  # also those that came meanwhile
    left = [described(who) for who in family if who.lives]
    left += [f"port {port}" for port in ports(it, name, began) if is_open(port)]
    return Stop(name.rpartition(".")[0], seconds, len(family), left)


def family_of(it: Box, name: str, began: float) -> set[Identity]:
    """All of it that runs or is a zombie now: as it has told itself, and by its environment."""
    events = [*it.journal(name, "started"), *it.journal(name, "child")]
    pids = {event["pid"] for event in events if event["at"] >= began}
    pids |= {process.pid for process in psutil.process_iter() if bears(process, name)}
    found = set()
    for pid in pids:
        with suppress(ProcessLookupError):
            found.add(Identity.of(pid))
    return found


def bears(process: psutil.Process, name: str) -> bool:
    with suppress(psutil.Error):
        return bool(process.environ().get(MODEL) == name)
    return False


def described(who: Identity) -> str:
    with suppress(psutil.Error):
        process = psutil.Process(who.pid)
        return f"{who.pid} {process.status()} {shlex.join(process.cmdline())}"
    return f"{who.pid} gone meanwhile"


def ports(it: Box, name: str, began: float) -> list[int]:
    return [event["port"] for event in it.journal(name, "started") if event["at"] >= began]


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def zombies(it: Box) -> list[int]:
    children = psutil.Process(it.server.program.pid).children()
    return [child.pid for child in children if child.status() == psutil.STATUS_ZOMBIE]


async def many(times: int, seed: int, folder: Path) -> list[Stop]:
    """In lanes, each with its own engines; a third of them at some moment of the load."""
    names = [f"{kind}.0" for kind in KINDS]
    done: list[Stop] = []

    async def lane(number: int) -> None:
        dice, mine = random.Random(f"{seed} {number}"), names[number::LANES]
        for turn in range(number, times, LANES):
            after = dice.uniform(0, LOAD) if dice.random() < 1 / 3 else None
            done.append(await stop(it, mine[turn // LANES % len(mine)], after))

    async with hostiles(folder, *names) as it:
        async with anyio.create_task_group() as lanes:
            for number in range(LANES):
                lanes.start_soon(lane, number)
        await until(lambda: not zombies(it))
    return done


def figures(stops: list[Stop], seed: int) -> dict[str, Any]:
    over = [max(0.0, one.seconds - GRACE) for one in stops]
    return {
        "stops": len(stops),
        "seed": seed,
        "bad": sum(one.is_bad() for one in stops),
        "left_behind": sorted({what for one in stops for what in one.left}),
        "grace_s": GRACE,
        "over_grace_s": {"median": round(statistics.median(over), 4), "worst": round(max(over), 4)},
        "kinds": {
            kind: {
                "stops": len(of_it),
                "processes": max(one.processes for one in of_it),
                "median_s": round(statistics.median(one.seconds for one in of_it), 4),
                "worst_s": round(max(one.seconds for one in of_it), 4),
            }
            for kind in KINDS
            if (of_it := [one for one in stops if one.kind == kind])
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=500)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(2), "big"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stops = anyio.run(many, asked.times, asked.seed, Path(folder))
    sys.stdout.write(json.dumps(figures(stops, asked.seed), indent=1) + "\n")
    sys.exit(any(one.is_bad() for one in stops))


if __name__ == "__main__":
    main()
