"""Runs one box: its core's effects and deadlines, its engines' processes, its watched status.

It decides nothing. Facts go into `Box`, what comes out is done, and the newest Status is there
to be watched. Everything happens on one event loop and no fact waits for another, so there are
no locks.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from shared.alarm import Alarm
from shared.demand import Demand
from shared.status import SERVING, ModelStatus, Phase, Status
from shared.watch import Watch
from sidecar import memory
from sidecar.adoption import Found
from sidecar.box import Box
from sidecar.catalogue import Known
from sidecar.config import SidecarConfig
from sidecar.engine import Do, Left, Refusal
from sidecar.engines.launch import Launch
from sidecar.gpu import MemoryReader
from sidecar.journal import Journal
from sidecar.lookout import Lookout
from sidecar.machine import Exit, Fact, Spawn
from sidecar.memory import Memory
from sidecar.plan import Rules
from sidecar.report import report
from sidecar.runners import Runners
from sidecar.state import StateFolder

GONE_WITHIN = 5.0  # seconds after the force; what does not end then never may
COALESCE = 0.1  # seconds: in-flight counts, expiry and memory go out at most this often

log = structlog.get_logger()


class Refused(Exception):
    """The engine cannot serve this request now; the sidecar never queues."""

    def __init__(self, reason: Refusal, boot: str, seq: int) -> None:
        super().__init__(reason)
        self.reason, self.boot, self.seq = reason, boot, seq


@dataclass(frozen=True, slots=True)
class _Told:
    """The facts of one launch, on their way to the supervisor."""

    supervisor: Supervisor
    model: str

    def saw(self, fact: Fact, exit: Exit | None = None) -> None:
        now = time.monotonic()
        self.supervisor._act(self.supervisor.box.saw(self.model, fact, now, exit))

    def progressed(self, value: float) -> None:
        now = time.monotonic()
        self.supervisor._act(self.supervisor.box.progressed(self.model, value, now))

    def sign_of_life(self) -> None:
        self.supervisor.box.sign_of_life(self.model, time.monotonic())


class Supervisor:
    def __init__(
        self,
        name: str,
        config: SidecarConfig,
        known: dict[str, Known],
        folder: StateFolder,
        reader: MemoryReader,
        seen: Memory,
        runners: Runners,
        left: Mapping[str, Found],
    ) -> None:
        """`left`: by model, the engines that an earlier sidecar has left running."""
        self.known = known
        self.box = Box(
            name,
            boot=secrets.token_hex(4),
            models={id: k.model for id, k in known.items()},
            capacity=memory.capacity(seen, config.memory_limit),
            rules=Rules(
                config.scheduling.patience,
                config.scheduling.min_resident,
                config.scheduling.preload,
            ),
            now=time.monotonic(),
        )
        self._memory_limit = config.memory_limit
        digests = {id: k.digest for id, k in known.items()}
        self._journal = Journal(folder.path / "journal.json", digests)
        self.box.recall(self._journal.read())
        self._supply(seen)
        self._lookout = Lookout(reader, seen, known)
        self.box.inventory.obstacles = self._lookout.obstacles()
        self._runners = runners
        self._adopted = [runners.adopt(id, it, _Told(self, id)) for id, it in left.items()]
        here = {id: Left(it.launched.booking, it.serves) for id, it in left.items()}
        self._effects = self.box.adopt(here, time.monotonic())
        self.status: Watch[Status] = Watch(report(self.box, seen, time.monotonic(), time.time()))
        self._problems: set[str] = set()  # that were logged
        self._alarm = Alarm(self._tick)
        self._later: asyncio.TimerHandle | None = None

    # Its life.

    async def run(self) -> None:
        """Until cancelled. Engines that still run then are ended by force, unless they are left
        to the next sidecar."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                watching = self._lookout.watch_memory(
                    lambda: self._runners.leaders.values(), self._looked
                )
                self._tasks.create_task(self._lookout.watch_files(self._found))
                self._tasks.create_task(watching)
                for runner in self._adopted:
                    self._tasks.create_task(runner.run())
                self._act(self._effects)
                self._looked(self._lookout.seen)
        finally:
            self._alarm.cancel()
            if self._later is not None:
                self._later.cancel()

    async def close(self, patience: float, hurry: asyncio.Event, *, keep: bool = False) -> None:
        """Admit nobody, wait `patience` seconds for what runs, then stop the engines, or leave
        them to the next sidecar (`keep`). `hurry` ends the wait.

        Returns when no engine is left, or when one does not end whatever is done.
        """
        self._act(self.box.close(time.monotonic(), keep=keep))
        over = asyncio.ensure_future(self._until_all(_is_unused if keep else _is_gone))
        hurried = asyncio.ensure_future(hurry.wait())
        try:
            await asyncio.wait(
                {over, hurried}, timeout=patience, return_when=asyncio.FIRST_COMPLETED
            )
            if keep:
                self._runners.leave()
            else:
                self._runners.force()
                await asyncio.wait({over}, timeout=GONE_WITHIN)
        finally:
            over.cancel()
            hurried.cancel()
            self.status.close()

    # What is asked of it.

    def demand(self, router: str, demand: Demand) -> None:
        self._act(self.box.heard(router, demand, time.monotonic()))

    @contextmanager
    def admitted(
        self, model: str, router: str | None, keep_alive: float | None
    ) -> Iterator[Launch]:
        """A slot of the model's engine, for as long as the block lasts. Raises Refused."""
        began = time.monotonic()
        refusal = self.box.admit(model, router, began, keep_alive)
        if refusal is not None:
            self._publish_soon()
            raise Refused(refusal, self.box.boot, self.box.seq)
        self._publish_soon()
        try:
            yield self._runners.launch(model)
        finally:
            self._act(self.box.release(model, began, time.monotonic()))

    def look(self, model: str) -> Launch:
        """Where the model's engine is, for a look that counts as no use of it. Raises Refused."""
        if not self.box.engines[model].machine.serves:
            raise Refused("not_ready", self.box.boot, self.box.seq)
        return self._runners.launch(model)

    def is_ours(self, port: int) -> bool:
        """Whether an engine of ours has this port, at this very moment."""
        return self._runners.listens(port)

    def load(self, model: str) -> None:
        self._act(self.box.load(model, time.monotonic()))

    def unload(self, model: str) -> None:
        self._act(self.box.unload(model, time.monotonic()))

    def switch(self, model: str) -> None:
        self._act(self.box.switch(model, time.monotonic()))

    def log_tail(self, model: str, lines: int) -> tuple[str, ...]:
        """The last lines of the model's engine, or of its last one."""
        return self._runners.tail(model, lines)

    # What follows.

    def _act(self, effects: list[Do]) -> None:
        """Do what the core says, show what has changed, and see to the next deadline."""
        for do in effects:
            if isinstance(do.effect, Spawn):
                told, there = _Told(self, do.model), self._lookout.seen.gpus
                runner = self._runners.start(do.model, do.booking, there, told)
                self._tasks.create_task(runner.run())
            else:
                self._runners.stop(do.model, force=do.effect.force)
        self.box.wrote(self._runners.trouble)
        if self.box.news:
            self.publish()
        else:
            self._publish_soon()
        self._alarm.set(self.box.deadline(time.monotonic()))
        if self.box.ledger.is_awaited:
            self._lookout.hurry()
        if self.box.learned:  # last: those who wait hear of it before the disk does
            self._remember()

    def _remember(self) -> None:
        self.box.learned = False
        engines = self.box.engines.items()
        self._journal.write({id: engine.history.measured for id, engine in engines})

    def _tick(self) -> None:
        self._act(self.box.tick(time.monotonic()))

    def _looked(self, seen: Memory) -> None:
        self._supply(seen)
        self._act(self.box.looked(seen, self._runners.leaders, time.monotonic()))

    def _supply(self, seen: Memory) -> None:
        capacity, uuids = memory.capacity(seen, self._memory_limit), memory.uuids(seen)
        self.box.supplied(capacity, uuids, seen.trouble)

    def _found(self, obstacles: Mapping[str, Exit]) -> None:
        self._act(self.box.found(obstacles, time.monotonic()))

    async def _until_all(self, hold: Callable[[ModelStatus], bool]) -> None:
        async for status in self.status:
            if all(map(hold, status.models)):
                return

    # What is shown.

    def publish(self) -> None:
        """Show the box as it is now to all who watch."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        before = {m.id: m.phase for m in self.status.value.models}
        self.box.seq += 1
        self.box.news = self.box.changed = False
        status = report(self.box, self._lookout.seen, time.monotonic(), time.time())
        self.status.set(status)
        for problem in sorted(set(status.problems) - self._problems):
            log.warning("problem", problem=problem)
        self._problems = set(status.problems)
        for model in status.models:
            if model.phase is not before[model.id]:
                self._runners.note(model.id, serves=model.phase in SERVING)
                self._log_phase(model.id, before[model.id], model.phase)

    def _publish_soon(self) -> None:
        if self.box.changed and self._later is None:
            self._later = asyncio.get_running_loop().call_later(COALESCE, self.publish)

    def _log_phase(self, model: str, before: Phase, phase: Phase) -> None:
        engine = self.box.engines[model]
        failure = engine.machine.failure
        tell = log.warning if failure else log.info
        tell(
            "phase",
            model=model,
            was=before,
            phase=phase,
            because=engine.because,
            error=failure.message if failure else None,
        )


def _is_gone(model: ModelStatus) -> bool:
    return model.phase is Phase.IDLE


def _is_unused(model: ModelStatus) -> bool:
    return model.in_flight == 0
