"""One storm, from its first program to its figures."""

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.faults.storm import processes, quiet, watch
from tests.faults.storm.clients import Client, expected
from tests.faults.storm.faults import Faults
from tests.faults.storm.fleet import Fleet, fleet
from tests.faults.storm.history import History
from tests.faults.storm.schedule import schedule

CLIENTS = 12
WARM = 600.0  # seconds: from minute 10 on memory is to stay as it is
MOST_MIB = 8.0
TOLD = 10.0  # seconds between two lines of progress
AFTERWARDS = 240.0  # seconds for starts, last answers and ends; beyond, something hangs


@dataclass(frozen=True)
class Plan:
    minutes: float
    seed: int
    faults: int

    @property
    def seconds(self) -> float:
        return self.minutes * 60

    @property
    def command(self) -> str:
        how = f"--minutes {self.minutes:g} --seed {self.seed} --faults {self.faults}"
        return f".venv/bin/python -m tests.faults.storm {how}"


@dataclass
class Storm:
    plan: Plan
    history: History
    fleet: Fleet
    faults: Faults
    samples: dict[str, watch.Samples]
    doing: str = "starting"

    async def run(self) -> None:
        files = {name: processes.files(seat.pid) for name, seat in self.fleet.steady.items()}
        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(task) for task in self._watches()]
            await self._faults_over_load()
            self.doing = "waiting for quiet"
            await quiet.quiet(self.fleet, self.history)
            for samples in self.samples.values():
                samples.take()
            self.doing = "waiting for no engine"
            await quiet.unloaded(self.fleet, self.history, files)
            for task in watching:
                task.cancel()
        self.history.close(time.monotonic())

    def _watches(self) -> Iterator[Any]:
        for box in self.fleet.boxes.values():
            yield watch.statuses(box)
            yield watch.engines(box, self.history)
        for samples in self.samples.values():
            yield samples.run()
        yield self._tell()

    async def _faults_over_load(self) -> None:
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as load:
            for client in self.faults.clients:
                load.create_task(client.run(enough))
            async with asyncio.TaskGroup() as faults:
                self.doing = "faults"
                for number, fault in enumerate(
                    schedule(self.plan.seed, self.plan.faults, self.plan.seconds)
                ):
                    await asyncio.sleep(fault.after)
                    faults.create_task(self.faults.run(number, fault))
                self.doing = "waiting for the last faults"
            self.doing = "waiting for the last answers"
            enough.set()

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(TOLD)
            say(self.line())

    def line(self) -> str:
        history, faults = self.history, self.faults
        done = f"{faults.done.total()} faults, {faults.missed.total()} met nobody"
        asked = f"{history.asked} requests, {history.open} open"
        under_way = f"; under way: {list(faults.under_way.values())}" if faults.under_way else ""
        return f"{self.doing}: {done}, {asked}, {len(history.breaches)} breaches{under_way}"

    def figures(self) -> dict[str, Any]:
        since = min(WARM, self.plan.seconds / 2)
        memory = {name: samples.figures(since) for name, samples in self.samples.items()}
        if self.plan.seconds > WARM:
            for name, found in memory.items():
                if found["grown_mib"] > MOST_MIB:
                    self.history.breach("memory grew", name, time.monotonic(), str(found))
        for late in self.faults.comebacks.late + self.faults.comebacks.lost:
            self.history.breach("a sidecar that came back", "", time.monotonic(), late)
        return {
            "seed": self.plan.seed,
            "replay": self.plan.command,
            "faults": dict(self.faults.done),
            "faults_done": self.faults.done.total(),
            "met_nobody": dict(self.faults.missed),
            "requests": self.history.asked,
            "ends": dict(sorted(self.history.ends.items())),
            "statuses": {name: box.history.statuses for name, box in self.fleet.boxes.items()},
            "boots": {name: box.history.boots for name, box in self.fleet.boxes.items()},
            "comebacks": self.faults.comebacks.figures(),
            "memory_since_s": since,
            "steady": memory,
            "breaches": [asdict(breach) for breach in self.history.breaches],
        }


async def run(plan: Plan) -> dict[str, Any]:
    say(plan.command)
    history = History(expected)
    with _folder() as folder:
        async with fleet(folder, history) as there:
            fronts = {name: there.links[f"clients-{name}"].url for name in there.routers}
            clients = [
                Client(f"c{n}", fronts, history, random.Random(f"{plan.seed} {n}"))
                for n in range(CLIENTS)
            ]
            faults = Faults(there, clients, history)
            samples = {name: watch.Samples(seat) for name, seat in there.steady.items()}
            storm = Storm(plan, history, there, faults, samples)
            try:
                async with asyncio.timeout(plan.seconds + AFTERWARDS):
                    await storm.run()
            except TimeoutError:
                history.breach("it did not end", "", time.monotonic(), storm.line())
        await quiet.nothing_is_left(history)
        figures = storm.figures()
        if history.breaches:
            kept = folder.rename(folder.with_name(f"{folder.name}-kept"))
            say(f"{len(history.breaches)} breaches; logs: {kept}; replay: {plan.command}")
    return figures


@contextmanager
def _folder() -> Iterator[Path]:
    """For all logs and state; it stays where something was wrong."""
    with tempfile.TemporaryDirectory(prefix="storm-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
