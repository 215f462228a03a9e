"""One storm, from its first program to its figures."""

import asyncio
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.storm import logs, processes, quiet, verdict, watch
from tests.faults.storm.clients import Client, expected
from tests.faults.storm.faults import Faults
from tests.faults.storm.fleet import Fleet, fleet
from tests.faults.storm.history import History
from tests.faults.storm.recovery import Recovery
from tests.faults.storm.schedule import schedule

CLIENTS = 12
ENDS = 180.0  # seconds of the time for a start, last answers and ends; of a short storm a quarter
LEAST_FOR_ENDS = 120.0  # seconds; where more passes, something hangs
WARM = 600.0  # seconds: from minute 10 on memory is to stay as it is
TOLD = 10.0  # seconds between two lines of progress


def seconds_of_faults(minutes: float) -> float:
    return max(minutes * 60 - ENDS, minutes * 45)


@dataclass(frozen=True)
class Plan:
    minutes: float
    seed: int
    faults: int

    @property
    def seconds(self) -> float:
        """Of faults."""
        return seconds_of_faults(self.minutes)

    @property
    def most(self) -> float:
        """Seconds in all."""
        return max(self.minutes * 60, self.seconds + LEAST_FOR_ENDS)

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
    recovery: Recovery
    samples: dict[str, watch.Samples]
    doing: str = "starting"
    began: float = field(default_factory=time.monotonic)
    loaded: float = 0.0  # seconds under load

    async def run(self) -> None:
        files = {name: processes.files(seat.pid) for name, seat in self.fleet.steady.items()}
        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(task) for task in self._watches()]
            await self._faults_over_load()
            self.doing = "waiting for quiet"
            await quiet.quiet(self.fleet, self.history)
            self.doing = "asking for every model"
            await self.recovery.run()
            self.doing = "waiting for no engine"
            await quiet.unloaded(self.fleet, self.history, files)
            for task in watching:
                task.cancel()
        self.history.close(time.monotonic())

    def _watches(self) -> Iterator[Any]:
        for box in self.fleet.boxes.values():
            yield watch.statuses(box)
            yield watch.engines(box, self.history)
            yield watch.room(box)
        for samples in self.samples.values():
            yield samples.run()
        yield watch.falls(self.fleet.seats, self.history)
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
            self.loaded = time.monotonic() - self.began
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

    def judge(self) -> None:
        """What only all of it shows."""
        found = verdict.of_requests(self.history) + self.faults.comebacks.wrong()
        found += verdict.of_faults(self.faults.done.total(), self.plan.faults)
        for box in self.fleet.boxes.values():
            found += verdict.of_box(box.history)
        if self.plan.seconds > WARM + 2 * watch.WIDE:
            found += verdict.of_memory(self.memory())
        for wrong in found:
            self.history.breach("in all", "", time.monotonic(), wrong)

    def memory(self) -> dict[str, dict[str, Any]]:
        since = min(WARM, self.loaded / 2)
        return {name: it.figures(since, self.loaded) for name, it in self.samples.items()}

    def figures(self) -> dict[str, Any]:
        faults, boxes = self.faults, self.fleet.boxes.items()
        return {
            "faults": dict(faults.done),
            "faults_done": faults.done.total(),
            "met_nobody": dict(faults.missed),
            "requests": self.history.asked,
            "excused": self.history.excused,
            "ends": dict(sorted(self.history.ends.items())),
            "statuses": {name: box.history.statuses for name, box in boxes},
            "adjoining": {name: box.history.adjoining for name, box in boxes},
            "looks": {name: box.history.looks for name, box in boxes},
            "boots": {name: box.history.boots for name, box in boxes},
            "comebacks": faults.comebacks.figures(),
            "asked_after_all": self.recovery.asked,
            "rested_after_all": self.recovery.rested,
            "loaded_s": round(self.loaded, 1),
            "steady": self.memory(),
        }


async def run(plan: Plan) -> dict[str, Any]:
    say(plan.command)
    history, began = History(expected), time.monotonic()
    figures: dict[str, Any] = {"seed": plan.seed, "replay": plan.command}
    with _folder(history) as folder:
        try:
            async with fleet(folder, history, plan.seed) as there:
                figures |= await _storm(plan, history, there)
        except Exception:  # noqa: BLE001 - the figures so far and the logs are wanted
            history.breach("the storm fell", "", time.monotonic(), traceback.format_exc())
        await quiet.nothing_is_left(history)
        for what, where in logs.wrong(folder):
            history.breach(what, "", time.monotonic(), where)
    return {
        **figures,
        "wall_s": round(time.monotonic() - began, 1),
        "breaches": [asdict(breach) for breach in history.breaches],
    }


async def _storm(plan: Plan, history: History, there: Fleet) -> dict[str, Any]:
    fronts = {name: there.links[f"clients-{name}"].url for name in there.routers}
    clients = [
        Client(f"c{n}", fronts, history, random.Random(f"{plan.seed} {n}")) for n in range(CLIENTS)
    ]
    faults, recovery = Faults(there, clients, history), Recovery(there, history)
    samples = {name: watch.Samples(seat) for name, seat in there.steady.items()}
    storm = Storm(plan, history, there, faults, recovery, samples)
    try:
        async with asyncio.timeout(plan.most):
            await storm.run()
    except TimeoutError:
        history.breach("it did not end", "", time.monotonic(), storm.line())
    except Exception:  # noqa: BLE001 - it is told as any other breach
        history.breach("the storm fell", "", time.monotonic(), traceback.format_exc())
    storm.judge()
    return storm.figures()


@contextmanager
def _folder(history: History) -> Iterator[Path]:
    """For all logs and state; it stays where something was wrong."""
    with tempfile.TemporaryDirectory(prefix="storm-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        yield folder
        if history.breaches:
            kept = folder.rename(folder.with_name(f"{folder.name}-kept"))
            say(f"{len(history.breaches)} breaches; logs: {kept}")


def say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
