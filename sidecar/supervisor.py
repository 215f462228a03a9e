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

import structlog

from shared.demand import Demand
from shared.heart import DUE, Heart, Undecided
from shared.status import SERVING, ModelStatus, Phase, Status
from shared.watch import Watch
from sidecar import diagnosis, memory
from sidecar.adoption import Found
from sidecar.box import Box
from sidecar.bulletin import Bulletin
from sidecar.catalogue import Known
from sidecar.config import SidecarConfig
from sidecar.engine import Do, Left, Refusal
from sidecar.engines.launch import Launch
from sidecar.failure import Exit
from sidecar.gpu import MemoryReader
from sidecar.journal import Journal
from sidecar.lookout import Lookout
from sidecar.machine import Fact, Spawn
from sidecar.memory import Memory
from sidecar.plan import Rules
from sidecar.runners import Runners
from sidecar.state import StateFolder

GONE_WITHIN = 5.0  # seconds after the force; what does not end then never may
MEMORY, FILES = "looks at memory", "looks at the models' files"
LOOKS_WITHIN = 10.0  # seconds: both looks are made every second, and a driver may take two more

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
        self._bulletin = Bulletin(self.box, lambda: self._lookout.seen, self._entered)
        self.heart = Heart(self._tick)

    # Its life.

    async def run(self) -> None:
        """Until cancelled. Engines that still run then are ended by force, unless they are left
        to the next sidecar."""
        try:
            self.heart.start()
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
            self.heart.stop()
            self._bulletin.stop()

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
                log.info("left to the next sidecar", engines=sorted(self._runners.leaders))
            else:
                self._runners.force()
                await asyncio.wait({over}, timeout=GONE_WITHIN)
        finally:
            over.cancel()
            hurried.cancel()
            self._bulletin.stop()

    # What is asked of it.

    @property
    def status(self) -> Watch[Status]:
        return self._bulletin.status

    def publish(self) -> None:
        """For one who begins to watch: how things are now, not when they last changed."""
        self._bulletin.publish()

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
            self._bulletin.publish_soon()
            raise Refused(refusal, self.box.boot, self.box.seq)
        self._bulletin.publish_soon()
        try:
            yield self._runners.launch(model)
        finally:
            self._act(self.box.release(model, began, time.monotonic()))

    def answered(self, model: str) -> None:
        """A request of its has got its whole answer."""
        self.box.engines[model].machine.answered()

    def stalled(self, model: str, launch: Launch) -> None:
        """That launch has requests, and has said nothing to any of them for as long as it may."""
        if self._runners.launch(model) is not launch or not self.box.engines[model].machine.serves:
            return  # it goes already
        said = f"said nothing for {launch.silence:g} s to any of its requests"
        stall = Exit("stalled", said, self.log_tail(model, diagnosis.LINES_TOLD))
        self._act(self.box.saw(model, Fact.STALLED, time.monotonic(), stall))

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

    def _decide(self, told: Callable[[float], list[Do]], about: str = DUE) -> None:
        """What a task of ours has seen: it goes on, even if that cannot be decided now."""
        with suppress(Undecided), self.heart.deciding(about):
            self._act(told(time.monotonic()))

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
            self._bulletin.publish()
        else:
            self._bulletin.publish_soon()
        self.heart.alarm.set(self.box.deadline(time.monotonic()))
        if self.box.ledger.is_awaited:
            self._lookout.hurry()
        if self.box.learned:  # last: those who wait hear of it before the disk does
            self._remember()

    def _remember(self) -> None:
        self.box.learned = False
        engines = self.box.engines.items()
        self._journal.write({id: engine.history.measured for id, engine in engines})

    def _tick(self) -> None:
        now = time.monotonic()
        said = {id: self.log_tail(id, diagnosis.LINES_TOLD) for id in self.box.overdue(now)}
        self._act(self.box.tick(now, said))

    def _looked(self, seen: Memory) -> None:
        self.heart.saw(MEMORY, LOOKS_WITHIN)
        self._supply(seen)
        self._decide(lambda now: self.box.looked(seen, self._runners.leaders, now), MEMORY)

    def _supply(self, seen: Memory) -> None:
        capacity, uuids = memory.capacity(seen, self._memory_limit), memory.uuids(seen)
        self.box.supplied(capacity, uuids, seen.trouble)

    def _found(self, obstacles: Mapping[str, Exit]) -> None:
        self.heart.saw(FILES, LOOKS_WITHIN)
        self._runners.look_at_folder()
        self._decide(lambda now: self.box.found(obstacles, now), FILES)

    def _entered(self, model: str, phase: Phase) -> None:
        self._runners.note(model, serves=phase in SERVING)

    async def _until_all(self, hold: Callable[[ModelStatus], bool]) -> None:
        async for status in self.status:
            if all(map(hold, status.models)):
                return


def _is_gone(model: ModelStatus) -> bool:
    return model.phase is Phase.IDLE


def _is_unused(model: ModelStatus) -> bool:
    return model.in_flight == 0
