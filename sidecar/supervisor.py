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

import structlog

from shared.demand import Demand
from shared.heart import Heart, Undecided
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
from sidecar.hearing import Hearing, about
from sidecar.journal import Journal
from sidecar.lookout import Lookout
from sidecar.machine import Fact, Spawn
from sidecar.memory import Memory
from sidecar.plan import Rules
from sidecar.runners import Runners
from sidecar.state import StateFolder

GONE_WITHIN = 5.0  # seconds after the force; what does not end then never may
MEMORY, FILES = "looks at memory", "looks at the models' files"
SHOWN = "what is shown"
LOOKS_WITHIN = 10.0  # seconds: both looks are made every second, and a driver may take two more

log = structlog.get_logger()


class Refused(Exception):
    """The engine cannot serve this request now; the sidecar never queues."""

    def __init__(self, reason: Refusal, boot: str, seq: int) -> None:
        super().__init__(reason)
        self.reason, self.boot, self.seq = reason, boot, seq


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
        self.heart = Heart(self._tick)
        self._hearing = Hearing(self.box, self.heart, self._act)
        self._adopted = [runners.adopt(id, it, self._hearing.of(id)) for id, it in left.items()]
        here = {id: Left(it.launched.booking, it.serves) for id, it in left.items()}
        self._effects = self.box.adopt(here, time.monotonic())
        self._bulletin = Bulletin(self.box, lambda: self._lookout.seen, self._entered)

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
        self._hearing.tell(lambda now: self.box.heard(router, demand, now))

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
            self._hearing.tell(lambda now: self.box.release(model, began, now))

    def answered(self, model: str) -> None:
        """A request of its has got its whole answer."""
        self.box.engines[model].machine.answered()

    def stalled(self, model: str, launch: Launch, *, whole: bool) -> bool:
        """That launch has requests, and has said nothing to any of them for as long as it may.
        False if that proves nothing: one answer in one piece (`whole`) may take as long."""
        machine = self.box.engines[model].machine
        if not machine.is_stall(launch.silence, time.monotonic(), whole=whole):
            return False
        self._stalls(model, launch, f"said nothing for {launch.silence:g} s to any of its requests")
        return True

    def unreachable(self, model: str, launch: Launch) -> None:
        """A connection to it has failed, and its end was not seen since then."""
        if self._runners.is_deaf(model):
            self._stalls(model, launch, "takes no connections any more")

    def _stalls(self, model: str, launch: Launch, said: str) -> None:
        if self._runners.launch(model) is not launch:
            return
        stall = Exit("stalled", said, self.log_tail(model, diagnosis.LINES_TOLD))
        self._hearing.tell(lambda now: self.box.saw(model, Fact.STALLED, now, stall))

    def look(self, model: str) -> Launch:
        """Where the model's engine is, for a look that counts as no use of it. Raises Refused."""
        if not self.box.engines[model].machine.serves:
            raise Refused("not_ready", self.box.boot, self.box.seq)
        return self._runners.launch(model)

    def is_ours(self, port: int) -> bool:
        """Whether an engine of ours has this port, at this very moment."""
        return self._runners.listens(port)

    def load(self, model: str) -> None:
        self._hearing.tell(lambda now: self.box.load(model, now))

    def unload(self, model: str) -> None:
        self._hearing.tell(lambda now: self.box.unload(model, now))

    def switch(self, model: str) -> None:
        self._hearing.tell(lambda now: self.box.switch(model, now))

    def log_tail(self, model: str, lines: int) -> tuple[str, ...]:
        """The last lines of the model's engine, or of its last one."""
        return self._runners.tail(model, lines)

    # What follows.

    def _act(self, effects: list[Do]) -> None:
        """Do what the core says, show what has changed, and see to the next deadline."""
        for do in effects:
            with suppress(Undecided), self.heart.deciding(about(do.model)):  # one by one
                if isinstance(do.effect, Spawn):
                    self._start(do)
                else:
                    self._runners.stop(do.model, force=do.effect.force)
        with suppress(Undecided), self.heart.deciding(SHOWN):
            self._show()

    def _start(self, do: Do) -> None:
        """Whatever keeps it from starting is the end of this load."""
        told, there = self._hearing.of(do.model), self._lookout.seen.gpus
        try:
            runner = self._runners.start(do.model, do.booking, there, told)
        except Exception as error:
            failed = Exit("crashed", f"{type(error).__name__} of the sidecar when it was started")
            asyncio.get_running_loop().call_soon(told.saw, Fact.EXITED, failed)
            raise
        self._tasks.create_task(runner.run())

    def _show(self) -> None:
        self.box.wrote(self._runners.trouble)
        if self.box.news:
            self._bulletin.publish()
        else:
            self._bulletin.publish_soon()
        deadline = self.box.deadline(time.monotonic())
        self.heart.alarm.set(min(deadline, self._hearing.again_at))
        if self.box.ledger.is_awaited:
            self._lookout.hurry()
        if self.box.learned:  # last: those who wait hear of it before the disk does
            self._remember()

    def _remember(self) -> None:
        self.box.learned = False
        engines = self.box.engines.items()
        self._journal.write({id: engine.history.measured for id, engine in engines})

    def _tick(self) -> None:
        self._hearing.again()
        said = {
            id: self.log_tail(id, diagnosis.LINES_TOLD) for id in self.box.overdue(time.monotonic())
        }
        self._hearing.tell(lambda now: self.box.tick(now, said))

    def _looked(self, seen: Memory) -> None:
        self.heart.saw(MEMORY, LOOKS_WITHIN)
        self._supply(seen)
        leaders = self._runners.leaders
        self._hearing.seen(lambda now: self.box.looked(seen, leaders, now), MEMORY)

    def _supply(self, seen: Memory) -> None:
        capacity, uuids = memory.capacity(seen, self._memory_limit), memory.uuids(seen)
        self.box.supplied(capacity, uuids, seen.trouble)

    def _found(self, obstacles: Mapping[str, Exit]) -> None:
        self.heart.saw(FILES, LOOKS_WITHIN)
        self._runners.look_at_folder()
        self._hearing.seen(lambda now: self.box.found(obstacles, now), FILES)

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
