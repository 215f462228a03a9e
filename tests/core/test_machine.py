from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from shared.status import Phase, Step
from sidecar.again import backoff
from sidecar.diagram import phase_diagram
from sidecar.failure import Exit
from sidecar.machine import (
    ENDS,
    IDLE,
    ON_FACT,
    ON_STATE,
    READY,
    STARTING,
    STOPPING,
    SWITCHING,
    Fact,
    IllegalFact,
    Limits,
    Machine,
    Spawn,
    Stop,
)

LIMITS = Limits(start=100, stall=20, drain=60, stop=10)
CRASH = Exit("crashed", "exited with code 1", ("loading", "boom", ""), "boom")
STALL = Exit("stalled", "said nothing for 300 s", ("a line",))


def machine(*facts: Fact, now: float = 0.0) -> Machine:
    told = Machine(LIMITS, now)
    for fact in facts:
        told.saw(fact, now, CRASH if fact is Fact.EXITED else None)
    return told


def ready(in_flight: int = 0, now: float = 0.0) -> Machine:
    engine = machine(Fact.WANTED, Fact.HEALTHY, now=now)
    for _ in range(in_flight):
        assert engine.admit(in_flight, now)
    return engine


def in_phase(phase: Phase) -> Machine:
    engine = ready(in_flight=1)
    return {
        IDLE: machine(),
        STARTING: machine(Fact.WANTED),
        READY: engine,
        SWITCHING: _told(ready(in_flight=1), Fact.LET_GO),
        STOPPING: _told(ready(), Fact.LET_GO),
    }[phase]


def _told(engine: Machine, fact: Fact) -> Machine:
    engine.saw(fact, 0.0)
    return engine


# The table: narrated lives of an engine, which together need every row.


def loads_serves_and_goes() -> None:
    engine = Machine(LIMITS, 0.0)
    assert engine.saw(Fact.WANTED, 1) == [Spawn()]
    assert (engine.phase, engine.step, engine.since) == (STARTING, Step.STARTING, 1)
    assert engine.saw(Fact.ALIVE, 2) == []
    assert (engine.phase, engine.step, engine.since) == (STARTING, Step.AWAITING_READINESS, 1)
    assert engine.saw(Fact.HEALTHY, 3) == []
    assert (engine.phase, engine.step, engine.ready_at) == (READY, None, 3)
    assert engine.saw(Fact.LET_GO, 4) == [Stop()]
    assert (engine.phase, engine.step) == (STOPPING, Step.STOPPING)
    assert engine.saw(Fact.EXITED, 5) == []
    assert (engine.phase, engine.failure, engine.deadline) == (IDLE, None, math.inf)


def finishes_what_it_has_before_it_goes() -> None:
    engine = ready(in_flight=2)
    assert engine.saw(Fact.LET_GO, 1) == []
    assert (engine.phase, engine.step, engine.deadline) == (SWITCHING, Step.DRAINING, 61)
    assert engine.saw(Fact.LET_GO, 2) == []
    assert (engine.phase, engine.deadline) == (SWITCHING, 61)
    assert engine.release(3) == []
    assert engine.release(4) == [Stop()]
    assert engine.phase is STOPPING


def is_kept_after_all() -> None:
    engine = ready(in_flight=1, now=7)
    engine.saw(Fact.LET_GO, 8)
    assert engine.saw(Fact.KEPT, 9) == []
    assert (engine.phase, engine.ready_at, engine.deadline) == (READY, 7, math.inf)
    assert engine.admit(2, 9)


def takes_too_long_to_finish() -> None:
    engine = ready(in_flight=1)
    engine.saw(Fact.LET_GO, 1)
    assert engine.saw(Fact.OVERDUE, 61) == [Stop()]
    assert (engine.phase, engine.in_flight, engine.deadline) == (STOPPING, 1, 71)


def is_deaf_to_the_polite_signal() -> None:
    engine = machine(Fact.WANTED)
    assert engine.saw(Fact.LET_GO, 1) == [Stop()]
    for crossed in (Fact.ALIVE, Fact.HEALTHY, Fact.LET_GO):
        assert engine.saw(crossed, 2) == []
        assert (engine.phase, engine.step, engine.deadline) == (STOPPING, Step.STOPPING, 11)
    assert engine.saw(Fact.OVERDUE, 11) == [Stop(force=True)]
    assert engine.saw(Fact.OVERDUE, 21) == [Stop(force=True)]
    assert engine.deadline == 26
    engine.saw(Fact.EXITED, 22, CRASH)
    assert (engine.phase, engine.failure) == (IDLE, None)


def cannot_be_ended_for_long() -> None:
    engine = ready()
    engine.saw(Fact.LET_GO, 1)
    for now in (11, 21):
        assert engine.saw(Fact.OVERDUE, now) == [Stop(force=True)]
        assert not engine.unkillable
    assert engine.saw(Fact.OVERDUE, 26) == [Stop(force=True)]
    assert (engine.phase, engine.unkillable, engine.deadline) == (STOPPING, True, 36)
    assert engine.failure is not None
    assert (engine.failure.code, engine.failure.cause) == ("load_failed", "unkillable")
    assert engine.failure.message == "15 s after it was killed it has not ended"
    engine.recover(27)
    assert engine.saw(Fact.OVERDUE, 36) == [Stop(force=True)]
    assert engine.failure.at == 26
    engine.cannot_start(Exit("unkillable", "it still has not"), 37)
    assert engine.failures == 1
    engine.saw(Fact.EXITED, 40)
    assert (engine.phase, engine.failure, engine.failures) == (IDLE, None, 0)
    assert not engine.unkillable
    engine.saw(Fact.WANTED, 41)
    engine.saw(Fact.LET_GO, 42)
    engine.saw(Fact.OVERDUE, 52)
    assert not engine.unkillable


def loses_its_main_process_while_it_loads() -> None:
    engine = machine(Fact.WANTED)
    assert engine.saw(Fact.HEADLESS, 5, CRASH) == [Stop()]
    assert (engine.phase, engine.step, engine.deadline) == (STOPPING, Step.STOPPING, 15)
    assert engine.failure is not None
    assert (engine.failure.code, engine.failure.cause) == ("load_failed", "crashed")
    engine.saw(Fact.EXITED, 6, CRASH)
    assert (engine.phase, engine.failures) == (IDLE, 1)


def loses_its_main_process_while_it_serves() -> None:
    engine = ready(in_flight=1)
    assert engine.saw(Fact.HEADLESS, 5, CRASH) == [Stop()]
    assert engine.saw(Fact.OVERDUE, 15) == [Stop(force=True)]
    assert engine.failure is not None
    assert engine.failure.code == "engine_died"


def loses_its_main_process_while_it_drains_or_stops() -> None:
    engine = ready(in_flight=1)
    engine.saw(Fact.LET_GO, 1)
    assert engine.saw(Fact.HEADLESS, 5, CRASH) == [Stop()]
    assert engine.saw(Fact.HEADLESS, 6, CRASH) == []
    assert (engine.phase, engine.deadline) == (STOPPING, 15)


def fails_to_load() -> None:
    engine = machine(Fact.WANTED)
    assert engine.saw(Fact.EXITED, 5, CRASH) == []
    assert (engine.phase, engine.failures) == (IDLE, 1)
    assert engine.failure is not None
    assert (engine.failure.code, engine.failure.cause) == ("load_failed", "crashed")


def never_gets_ready() -> None:
    engine = machine(Fact.WANTED)
    assert engine.saw(Fact.OVERDUE, 20) == [Stop()]
    assert (engine.phase, engine.failures) == (STOPPING, 1)


def dies_while_it_serves() -> None:
    engine = ready(in_flight=1)
    assert engine.saw(Fact.EXITED, 5, CRASH) == []
    assert (engine.phase, engine.in_flight, engine.failures) == (IDLE, 1, 0)
    assert engine.release(6) == []
    assert engine.failure is not None
    assert engine.failure.code == "engine_died"


def dies_while_it_drains() -> None:
    engine = ready(in_flight=1)
    engine.saw(Fact.LET_GO, 1)
    assert engine.saw(Fact.EXITED, 2, CRASH) == []
    assert (engine.phase, engine.deadline) == (IDLE, math.inf)
    assert engine.release(3) == []


def stalls_while_it_serves() -> None:
    engine = ready(in_flight=2)
    assert engine.saw(Fact.STALLED, 5, STALL) == [Stop()]
    assert (engine.phase, engine.step, engine.deadline) == (STOPPING, Step.STOPPING, 15)
    assert engine.failure is not None
    assert (engine.failure.code, engine.failure.cause) == ("engine_stalled", "stalled")
    assert (engine.failure.message, engine.failure.log_tail) == (STALL.how, STALL.log_tail)
    assert engine.release(6) == []
    assert engine.saw(Fact.OVERDUE, 15) == [Stop(force=True)]
    engine.saw(Fact.EXITED, 16, CRASH)
    assert (engine.phase, engine.failure.cause, engine.retry_at) == (IDLE, "stalled", 5)
    assert engine.died


def stalls_while_it_drains() -> None:
    engine = ready(in_flight=1)
    engine.saw(Fact.LET_GO, 1)
    assert engine.saw(Fact.STALLED, 5, STALL) == [Stop()]
    assert (engine.phase, engine.in_flight, engine.stalls) == (STOPPING, 1, 1)


def goes_already_and_does_not_stall() -> None:
    engine = ready(in_flight=1)
    engine.saw(Fact.LET_GO, 1)
    engine.release(2)
    assert engine.saw(Fact.STALLED, 3, STALL) == []
    assert engine.phase is STOPPING
    engine.saw(Fact.EXITED, 4, CRASH)
    assert engine.saw(Fact.STALLED, 5, STALL) == []
    assert (engine.phase, engine.failure, engine.stalls) == (IDLE, None, 0)


def waits_for_its_memory() -> None:
    engine = ready()
    engine.saw(Fact.LET_GO, 1)
    assert engine.saw(Fact.ENDED, 2) == []
    assert (engine.phase, engine.step, engine.since) == (STOPPING, Step.AWAITING_VRAM, 1)
    assert (engine.failure, engine.deadline) == (None, math.inf)
    assert engine.saw(Fact.LET_GO, 3) == []
    assert engine.step == Step.AWAITING_VRAM
    assert engine.saw(Fact.FREED, 4) == []
    assert (engine.phase, engine.step, engine.since) == (IDLE, None, 4)


def fails_to_load_and_leaves_memory_behind() -> None:
    engine = machine(Fact.WANTED)
    assert engine.saw(Fact.ENDED, 5, CRASH) == []
    assert (engine.phase, engine.step, engine.failures) == (STOPPING, Step.AWAITING_VRAM, 1)
    assert engine.failure is not None
    assert (engine.failure.code, engine.failure.at) == ("load_failed", 5)


def dies_while_it_serves_and_leaves_memory_behind() -> None:
    engine = ready(in_flight=1)
    assert engine.saw(Fact.ENDED, 5, CRASH) == []
    assert (engine.phase, engine.step, engine.deadline) == (
        STOPPING,
        Step.AWAITING_VRAM,
        math.inf,
    )
    assert engine.release(6) == []
    assert engine.failure is not None
    assert engine.failure.code == "engine_died"


def dies_while_it_drains_and_leaves_memory_behind() -> None:
    engine = ready(in_flight=1)
    engine.saw(Fact.LET_GO, 1)
    assert engine.saw(Fact.ENDED, 2, CRASH) == []
    assert (engine.phase, engine.step, engine.deadline) == (
        STOPPING,
        Step.AWAITING_VRAM,
        math.inf,
    )


def serves_on_under_the_next_sidecar() -> None:
    engine = Machine(LIMITS, 0.0)
    assert engine.saw(Fact.ADOPTED, 5) == []
    assert (engine.phase, engine.step, engine.deadline) == (READY, None, math.inf)
    assert (engine.ready_at, engine.last_used) == (5, 5)
    assert engine.admit(1, 6)


def is_of_no_use_to_the_next_sidecar() -> None:
    engine = Machine(LIMITS, 0.0)
    assert engine.saw(Fact.LEFT_BEHIND, 5) == [Stop()]
    assert (engine.phase, engine.step, engine.deadline) == (STOPPING, Step.STOPPING, 15)
    assert engine.saw(Fact.EXITED, 6) == []
    assert (engine.phase, engine.failure) == (IDLE, None)


def runs_out_of_memory_and_is_tried_once_more() -> None:
    engine = machine(Fact.WANTED)
    assert engine.saw(Fact.RAN_OUT, 5) == []
    assert (engine.phase, engine.step, engine.deadline) == (
        STOPPING,
        Step.AWAITING_VRAM,
        math.inf,
    )
    assert (engine.failure, engine.failures, engine.retry_at) == (None, 0, 0)
    engine.saw(Fact.FREED, 6)
    assert engine.saw(Fact.WANTED, 7) == [Spawn()]


LIVES = (
    loads_serves_and_goes,
    finishes_what_it_has_before_it_goes,
    is_kept_after_all,
    takes_too_long_to_finish,
    is_deaf_to_the_polite_signal,
    fails_to_load,
    never_gets_ready,
    dies_while_it_serves,
    dies_while_it_drains,
    stalls_while_it_serves,
    stalls_while_it_drains,
    goes_already_and_does_not_stall,
    waits_for_its_memory,
    fails_to_load_and_leaves_memory_behind,
    dies_while_it_serves_and_leaves_memory_behind,
    dies_while_it_drains_and_leaves_memory_behind,
    runs_out_of_memory_and_is_tried_once_more,
    serves_on_under_the_next_sidecar,
    is_of_no_use_to_the_next_sidecar,
    cannot_be_ended_for_long,
    loses_its_main_process_while_it_loads,
    loses_its_main_process_while_it_serves,
    loses_its_main_process_while_it_drains_or_stops,
)


@pytest.mark.parametrize("live", LIVES)
def test_an_engine(live: Callable[[], None]) -> None:
    live()


@contextmanager
def without(table: dict[Any, Phase], row: Any) -> Iterator[None]:
    whole = dict(table)
    del table[row]
    try:
        yield
    finally:
        table.clear()
        table.update(whole)


def fails(live: Callable[[], None]) -> bool:
    try:
        live()
    except (IllegalFact, AssertionError):
        return True
    return False


@pytest.mark.parametrize(
    ("table", "row"), [*((ON_FACT, row) for row in ON_FACT), *((ON_STATE, row) for row in ON_STATE)]
)
def test_no_life_is_possible_without_every_row(table: dict[Any, Phase], row: Any) -> None:
    with without(table, row):
        assert any(fails(live) for live in LIVES)
    assert not any(fails(live) for live in LIVES)


@pytest.mark.parametrize(
    ("phase", "fact"), [pair for pair in itertools.product(Phase, Fact) if pair not in ON_FACT]
)
def test_what_is_not_in_the_table_is_refused(phase: Phase, fact: Fact) -> None:
    engine = in_phase(phase)
    before = vars(engine).copy()
    with pytest.raises(IllegalFact, match=f"{fact.name} while {phase}"):
        engine.saw(fact, 1.0, CRASH)
    assert vars(engine) == before


def test_the_diagram_names_every_transition() -> None:
    diagram = phase_diagram()
    for (phase, fact), target in ON_FACT.items():
        arrow = f"    {phase} --> {target}: {fact.name.lower().replace('_', ' ')}\n"
        assert (arrow in diagram) == (phase is not target)
    assert "    switching --> stopping: none in flight\n" in diagram
    assert diagram.startswith("stateDiagram-v2\n    [*] --> idle\n")


# Requests.


def test_an_engine_admits_no_more_than_its_slots() -> None:
    engine = ready(in_flight=2, now=1)
    assert not engine.admit(2, 3)
    assert (engine.in_flight, engine.last_used) == (2, 1)
    engine.release(4)
    assert engine.last_used == 4
    assert engine.admit(2, 5)


@pytest.mark.parametrize("phase", set(Phase) - {READY})
def test_only_a_ready_engine_admits(phase: Phase) -> None:
    engine = in_phase(phase)
    before = engine.in_flight
    assert not engine.admit(9, 1.0)
    assert engine.in_flight == before


@pytest.mark.parametrize("phase", set(Phase) - {STARTING})
def test_only_a_load_can_stall(phase: Phase) -> None:
    engine = in_phase(phase)
    deadline = engine.deadline
    engine.sign_of_life(1)
    assert engine.deadline == deadline


# Deadlines and failures.


def test_a_load_that_moves_has_not_stalled() -> None:
    engine = machine(Fact.WANTED)
    assert engine.deadline == 20
    engine.saw(Fact.ALIVE, 5)
    assert engine.deadline == 25
    engine.sign_of_life(9)
    assert engine.deadline == 29
    engine.saw(Fact.ALIVE, 12)  # "loading", said again, is no sign of life
    assert engine.deadline == 29


def test_a_load_without_a_sign_of_progress_has_stalled() -> None:
    engine = machine(Fact.WANTED)
    engine.sign_of_life(50)
    engine.saw(Fact.OVERDUE, 70)
    assert engine.failure is not None
    assert (engine.failure.code, engine.failure.cause) == ("load_failed", "stalled")
    assert engine.failure.message == "no sign of progress for 20 s"


def test_even_a_load_that_moves_must_be_ready_in_time() -> None:
    engine = machine(Fact.WANTED)
    engine.sign_of_life(95)
    assert engine.deadline == 100
    engine.saw(Fact.OVERDUE, 100)
    assert engine.failure is not None
    assert (engine.failure.cause, engine.failure.message) == ("timeout", "not ready within 100 s")
    engine.saw(Fact.EXITED, 101, CRASH)  # as told: it stays the failure that it was
    assert engine.failure.cause == "timeout"


def test_a_failed_load_says_the_last_words_of_its_engine() -> None:
    engine = machine(Fact.WANTED)
    engine.saw(Fact.EXITED, 5, CRASH)
    assert engine.failure is not None
    assert engine.failure.message == "exited with code 1: boom"
    assert (engine.failure.at, engine.failure.log_tail) == (5, ("loading", "boom", ""))
    engine.saw(Fact.WANTED, 6)
    assert engine.failure is None
    engine.saw(Fact.EXITED, 7, Exit("crashed", "ended by SIGKILL"))
    assert engine.failure is not None
    assert engine.failure.message == "ended by SIGKILL"


def test_the_last_words_of_an_engine_that_served_are_not_told() -> None:
    engine = ready()
    engine.saw(Fact.EXITED, 5, CRASH)
    assert engine.failure is not None
    assert (engine.failure.code, engine.failure.message) == ("engine_died", "exited with code 1")


def test_an_exit_that_nobody_asked_for_needs_its_reason() -> None:
    with pytest.raises(AssertionError, match="needs its reason"):
        ready().saw(Fact.EXITED, 1)


def test_a_stall_needs_its_reason() -> None:
    with pytest.raises(AssertionError, match="needs its reason"):
        ready().saw(Fact.STALLED, 1)


def stalled(times: int) -> Machine:
    """So often in a row, the first time at 1."""
    engine = Machine(LIMITS, 0)
    for at in range(1, times + 1):
        engine.saw(Fact.WANTED, at)
        engine.saw(Fact.HEALTHY, at)
        engine.saw(Fact.STALLED, at, STALL)
        engine.saw(Fact.EXITED, at)
    return engine


@pytest.mark.parametrize("times", range(1, 5))
def test_an_engine_that_stalls_again_and_again_backs_off_although_its_loads_succeed(
    times: int,
) -> None:
    engine = stalled(times)
    assert (engine.stalls, engine.failures) == (times, 0)
    assert engine.retry_at == times + backoff(times)


def test_silence_proves_a_stall_but_for_the_first_answer_in_one_piece() -> None:
    engine = ready()
    assert engine.is_stall(10, 50, whole=False)
    engine = ready()
    assert not engine.is_stall(10, 50, whole=True)
    assert not engine.is_stall(10, 59, whole=True)  # asked for at the same time
    assert engine.is_stall(10, 60, whole=True)
    engine.answered()
    assert not engine.is_stall(10, 100, whole=True)


def test_one_whole_answer_ends_a_row_of_stalls() -> None:
    engine = stalled(3)
    engine.answered()
    engine.saw(Fact.WANTED, 20)
    engine.saw(Fact.HEALTHY, 20)
    engine.saw(Fact.STALLED, 21, STALL)
    assert (engine.stalls, engine.retry_at) == (1, 21)


def test_two_failed_loads_are_forgiven_and_then_the_pause_doubles_up_to_300_s() -> None:
    assert [backoff(n) for n in range(10)] == [0, 0, 0, 10, 20, 40, 80, 160, 300, 300]
    assert backoff(5000) == 300  # a fortnight of failures


def test_the_pause_counts_from_the_last_failure_and_one_success_ends_it() -> None:
    engine = Machine(LIMITS, 0)
    for n in range(1, 5):
        engine.saw(Fact.WANTED, n * 100)
        engine.saw(Fact.EXITED, n * 100 + 1, CRASH)
        assert (engine.failures, engine.retry_at) == (n, n * 100 + 1 + backoff(n))
    engine.saw(Fact.WANTED, 500)
    engine.saw(Fact.HEALTHY, 501)
    assert engine.failures == 0


def test_whoever_asks_by_hand_need_not_wait_for_the_next_try() -> None:
    engine = Machine(LIMITS, 0)
    for _ in range(4):
        engine.saw(Fact.WANTED, 1)
        engine.saw(Fact.EXITED, 1, CRASH)
    assert engine.retry_at == 21
    engine.forgive(2)
    assert (engine.failures, engine.retry_at) == (0, 2)
    engine = stalled(3)
    assert engine.retry_at == 13
    engine.forgive(4)
    assert (engine.stalls, engine.retry_at) == (0, 4)


# Whatever happens, in whatever order.


NEXT_OF_THE_LIVING = set(Fact) - {Fact.FREED}


class Walk:
    """A machine and a process that does what it is told, some time."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = 0.0
        self.machine = Machine(LIMITS, self.now)
        self.alive = False
        self.in_flight = 0

    def step(self) -> None:
        self.now += self.chance.choice([0, 0.5, 5, 30])
        self.chance.choice([self._fact, self._fact, self._request, self._life])()
        self._check()

    def _fact(self) -> None:
        possible = {f for p, f in ON_FACT if p is self.machine.phase}
        if self.machine.phase is STOPPING:
            possible &= NEXT_OF_THE_LIVING if self.alive else {Fact.LET_GO, Fact.FREED}
        fact = self.chance.choice(sorted(possible, key=lambda fact: fact.value))
        undrained = (Fact.OVERDUE, Fact.STALLED, Fact.HEADLESS)
        draining = self.machine.phase is SWITCHING and fact not in undrained
        self.alive |= fact in (Fact.ADOPTED, Fact.LEFT_BEHIND)
        effects = self.machine.saw(fact, self.now, CRASH)
        if fact in ENDS:
            self.alive = False
        for effect in effects:
            assert self.alive == isinstance(effect, Stop)
            assert not (draining and self.in_flight), "stopped with requests in flight"
            self.alive = True

    def _request(self) -> None:
        if self.in_flight and self.chance.random() < 0.5:
            self.in_flight -= 1
            effects = self.machine.release(self.now)
            assert effects in ([], [Stop()])
        elif self.machine.admit(2, self.now):
            assert self.machine.phase is READY
            self.in_flight += 1

    def _life(self) -> None:
        self.machine.sign_of_life(self.now)

    def _check(self) -> None:
        machine = self.machine
        waits_for_memory = machine.step == Step.AWAITING_VRAM
        assert self.alive == (machine.phase is not IDLE and not waits_for_memory)
        assert machine.in_flight == self.in_flight <= 2
        assert machine.phase is not SWITCHING or self.in_flight
        limited = machine.phase in (STARTING, SWITCHING, STOPPING) and not waits_for_memory
        assert limited == (machine.deadline < math.inf)


def test_no_order_of_events_breaks_an_engine() -> None:
    for seed in range(50):
        walk = Walk(seed)
        for _ in range(60):
            walk.step()


@pytest.mark.parametrize("phase", Phase)
def test_an_engine_can_be_looked_at_while_it_is_up(phase: Phase) -> None:
    engine = in_phase(phase)
    assert engine.serves == (phase in (READY, SWITCHING))
