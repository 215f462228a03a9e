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
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import httpx
import structlog

from shared.demand import Demand
from shared.heart import DUE, Heart, Undecided
from shared.status import Phase, Status
from shared.watch import Watch
from sidecar import diagnosis, gpus, memory, port
from sidecar.box import Box
from sidecar.catalogue import Known
from sidecar.config import SidecarConfig
from sidecar.engine import Do, Refusal
from sidecar.engines import command, embedded, llama_cpp
from sidecar.engines.launch import Given, Launch
from sidecar.gpu import MemoryReader
from sidecar.journal import Journal
from sidecar.lookout import Lookout
from sidecar.machine import Exit, Fact, Spawn
from sidecar.memory import Bytes, Memory
from sidecar.plan import Rules
from sidecar.report import report
from sidecar.runner import Runner
from sidecar.state import MARK, StateFolder

COALESCE = 0.1  # seconds: in-flight counts, expiry and memory go out at most this often
MEMORY, FILES = "looks at memory", "looks at the models' files"
LOOKS_WITHIN = 10.0  # seconds: both looks are made every second, and a driver may take two more

PRESETS = {
    "command": command.launch,
    "embedded": embedded.launch,
    "llama.cpp": llama_cpp.launch,
}

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
        it = self.supervisor
        it._decide(lambda now: it.box.saw(self.model, fact, now, exit))

    def progressed(self, value: float) -> None:
        it = self.supervisor
        it._decide(lambda now: it.box.progressed(self.model, value, now))

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
    ) -> None:
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
        self.status: Watch[Status] = Watch(report(self.box, seen, time.monotonic(), time.time()))
        self._folder = folder
        self._lookout = Lookout(reader, seen, known)
        self.box.inventory.obstacles = self._lookout.obstacles()
        self._runners: dict[str, Runner] = {}  # the last one of each model, running or not
        self._problems: set[str] = set()  # that were logged
        self.heart = Heart(self._tick)
        self._later: asyncio.TimerHandle | None = None

    # Its life.

    async def run(self) -> None:
        """Until cancelled. Engines that still run then are ended by force."""
        async with httpx.AsyncClient(trust_env=False) as self._health:
            try:
                self.heart.start()
                async with asyncio.TaskGroup() as self._tasks:
                    watching = self._lookout.watch_memory(
                        lambda: self._leaders().values(), self._looked
                    )
                    self._tasks.create_task(self._lookout.watch_files(self._found))
                    self._tasks.create_task(watching)
                    self._looked(self._lookout.seen)
            finally:
                self.heart.stop()
                if self._later is not None:
                    self._later.cancel()

    async def close(self, patience: float, hurry: asyncio.Event) -> None:
        """Admit nobody, wait `patience` seconds for what runs, then stop the engines.

        Returns when no engine is left. `hurry` ends them at once.
        """
        self._act(self.box.close(time.monotonic()))
        drained = asyncio.ensure_future(self._until_no_engine_is_left())
        hurried = asyncio.ensure_future(hurry.wait())
        try:
            await asyncio.wait(
                {drained, hurried}, timeout=patience, return_when=asyncio.FIRST_COMPLETED
            )
            for runner in self._runners.values():
                runner.stop(force=True)
            await drained
        finally:
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
            yield self._runners[model].launch
        finally:
            self._act(self.box.release(model, began, time.monotonic()))

    def answered(self, model: str) -> None:
        """A request of its has got its whole answer."""
        self.box.engines[model].machine.answered()

    def stalled(self, model: str, launch: Launch) -> None:
        """That launch has requests, and has said nothing to any of them for as long as it may."""
        runner = self._runners[model]
        if runner.launch is not launch or not self.box.engines[model].machine.serves:
            return  # it goes already
        said = f"said nothing for {launch.silence:g} s to any of its requests"
        stall = Exit("stalled", said, runner.tail(diagnosis.LINES_TOLD))
        self._act(self.box.saw(model, Fact.STALLED, time.monotonic(), stall))

    def look(self, model: str) -> Launch:
        """Where the model's engine is, for a look that counts as no use of it. Raises Refused."""
        if not self.box.engines[model].machine.serves:
            raise Refused("not_ready", self.box.boot, self.box.seq)
        return self._runners[model].launch

    def load(self, model: str) -> None:
        self._act(self.box.load(model, time.monotonic()))

    def unload(self, model: str) -> None:
        self._act(self.box.unload(model, time.monotonic()))

    def switch(self, model: str) -> None:
        self._act(self.box.switch(model, time.monotonic()))

    def log_tail(self, model: str, lines: int) -> tuple[str, ...]:
        """The last lines of the model's engine, or of its last one."""
        return self._runners[model].tail(lines) if model in self._runners else ()

    # What follows.

    def _decide(self, told: Callable[[float], list[Do]], about: str = DUE) -> None:
        """What a task of ours has seen: it goes on, even if that cannot be decided now."""
        with suppress(Undecided), self.heart.deciding(about):
            self._act(told(time.monotonic()))

    def _act(self, effects: list[Do]) -> None:
        """Do what the core says, show what has changed, and see to the next deadline."""
        for do in effects:
            if isinstance(do.effect, Spawn):
                runner = self._runners[do.model] = self._runner(do.model, do.booking)
                self._tasks.create_task(runner.run())
            else:
                self._runners[do.model].stop(force=do.effect.force)
        if self.box.news:
            self.publish()
        else:
            self._publish_soon()
        self.heart.alarm.set(self.box.deadline(time.monotonic()))
        if self.box.ledger.is_awaited:
            self._lookout.hurry()
        if self.box.learned:  # last: those who wait hear of it before the disk does
            self._remember()

    def _remember(self) -> None:
        self.box.learned = False
        engines = self.box.engines.items()
        self._journal.write({id: engine.history.measured for id, engine in engines})

    def _runner(self, model: str, booking: Bytes) -> Runner:
        id = secrets.token_hex(8)
        launch, told = self._launch(model, id, booking), _Told(self, model)
        log, fifo = self._folder.log(model, id), self._folder.fifo(id)
        return Runner(launch, log, fifo, told, self._health)

    def _launch(self, model: str, id: str, booking: Bytes) -> Launch:
        known = self.known[model]
        seen = gpus.visible(booking, self._lookout.seen.gpus, on_host=known.model.need.on_host)
        env = {**seen, **known.config.env, MARK: self._folder.mark(id)}
        given = Given(known.context, port.free(), self._folder.key(id), env)
        return PRESETS[known.facts.engine](known.config, given)

    def _tick(self) -> None:
        self._act(self.box.tick(time.monotonic()))

    def _leaders(self) -> dict[str, int]:
        return {id: pid for id, runner in self._runners.items() if (pid := runner.leader)}

    def _looked(self, seen: Memory) -> None:
        self.heart.saw(MEMORY, LOOKS_WITHIN)
        self._supply(seen)
        self._decide(lambda now: self.box.looked(seen, self._leaders(), now), MEMORY)

    def _supply(self, seen: Memory) -> None:
        capacity, uuids = memory.capacity(seen, self._memory_limit), memory.uuids(seen)
        self.box.supplied(capacity, uuids, seen.trouble)

    def _found(self, obstacles: Mapping[str, Exit]) -> None:
        self.heart.saw(FILES, LOOKS_WITHIN)
        self._decide(lambda now: self.box.found(obstacles, now), FILES)

    async def _until_no_engine_is_left(self) -> None:
        async for status in self.status:
            if all(model.phase is Phase.IDLE for model in status.models):
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
