from __future__ import annotations

import math

import pytest

from sidecar.engine import Engine, Model
from sidecar.estimate import History, Measured
from sidecar.failure import Exit
from sidecar.ledger import Ledger
from sidecar.machine import Fact, Limits, Machine
from sidecar.memory import HOST, Bytes, Gpu, Host, Memory, Need
from sidecar.use import RETURNS_WITHIN

GIB = 2**30
LIMITS = Limits(start=100, stall=20, drain=60, stop=10)
BOX = {"gpu0": 24 * GIB, "gpu1": 24 * GIB, HOST: 64 * GIB}
PIDS = {"a": 100, "b": 200, "c": 300}
NEEDS = {
    "a": Need(10 * GIB, "estimated", on_host=False),
    "b": Need(10 * GIB, "declared", on_host=False),
    "c": Need(None, "unknown", on_host=False),
    "h": Need(4 * GIB, "estimated", on_host=True),
    "p": Need(5 * GIB, "declared", on_host=False),
}


class Yard:
    """A ledger, engines, and a machine whose figures a test sets. Sizes in GiB. `elsewhere`: models
    that run in containers of their own."""

    def __init__(self, *elsewhere: str) -> None:
        models = {
            id: Model(id, 1, need, LIMITS, pinned=id == "p", elsewhere=id in elsewhere)
            for id, need in NEEDS.items()
        }
        self.engines = {
            id: Engine(model, Machine(LIMITS, 0), History()) for id, model in models.items()
        }
        self.ledger = Ledger(self.engines)
        self.ledger.supplied(BOX, {"GPU-0": "gpu0", "GPU-1": "gpu1"}, None)

    def look(
        self,
        *used: float,
        told: dict[str, dict[str, float]] | None = None,
        at: float = math.inf,
        now: float = 0.0,
    ) -> list[str]:
        """Those whose waiting for memory it ends. `told`: what the drivers say of our engines."""
        gpus = tuple(Gpu(n, f"GPU-{n}", "", 0, int(u * GIB), None) for n, u in enumerate(used))
        uses = {
            PIDS[id]: {p: int(u * GIB) for p, u in use.items()} for id, use in (told or {}).items()
        }
        self.ledger.look(Memory(Host(64, 0, 64), gpus, uses=uses, at=at), PIDS)
        return self.ledger.returned(now)

    def start(self, id: str, **booking: float) -> Engine:
        engine = self.engines[id]
        engine.booking = {pool: int(size * GIB) for pool, size in booking.items()}
        self.ledger.started(engine)
        engine.machine.saw(Fact.WANTED, 0)
        return engine

    def ready(self, id: str, now: float = 0.0, **booking: float) -> Engine:
        engine = self.start(id, **booking) if booking else self.engines[id]
        engine.machine.saw(Fact.HEALTHY, now)
        return engine

    def end(self, id: str, now: float = 0.0) -> bool:
        machine = self.engines[id].machine
        machine.saw(Fact.LET_GO, now)
        waits = self.ledger.ended(self.engines[id], now)
        machine.saw(Fact.ENDED if waits else Fact.EXITED, now)
        return waits

    @property
    def strangers(self) -> list[float]:
        return [size / GIB for size in self.ledger.strangers.values()]


def gib(booking: Bytes) -> dict[str, float]:
    return {pool: size / GIB for pool, size in booking.items()}


@pytest.fixture
def yard() -> Yard:
    return Yard()


# Measured by the process.


def test_an_engines_memory_is_known_by_its_process_while_it_loads_and_after(yard: Yard) -> None:
    yard.look(2, 0)
    assert yard.ledger.one_start_at_a_time == {"gpu0", "gpu1"}
    engine = yard.start("a", gpu0=10)
    yard.look(5, 0, told={"a": {"gpu0": 3, HOST: 1}})
    assert (yard.strangers, gib(engine.booking)) == ([2, 0], {"gpu0": 10})
    assert yard.ledger.one_start_at_a_time == {"gpu1"}
    yard.ready("a")
    yard.look(8, 0, told={"a": {"gpu0": 6, HOST: 1}})
    assert (yard.strangers, gib(engine.booking)) == ([2, 0], {"gpu0": 6})
    assert yard.ledger.learned
    assert engine.history.measured.peaks == {"GPU-0": (6 * GIB,), HOST: (1 * GIB,)}
    assert (engine.source, engine.need) == ("learned", 6 * GIB)
    assert [gib(one) for one in engine.placements] == [{"gpu0": 6}, {"gpu1": 10}]


def test_a_look_that_began_before_an_engine_was_ready_measures_nothing(yard: Yard) -> None:
    engine = yard.ready("a", now=5, gpu0=10)
    yard.look(3, 0, told={"a": {"gpu0": 3}}, at=4)
    assert (gib(engine.booking), yard.ledger.learned) == ({"gpu0": 10}, False)


def test_the_peak_counts_and_a_life_counts_once(yard: Yard) -> None:
    yard.look(0, 0)
    engine = yard.ready("a", gpu0=10)
    for used in (6, 8, 7):
        yard.look(used, 0, told={"a": {"gpu0": used}})
    assert engine.history.measured.peaks == {"GPU-0": (8 * GIB,)}
    assert gib(engine.booking) == {"gpu0": 8}
    yard.ledger.learned = False
    yard.look(8.1, 0, told={"a": {"gpu0": 8.1}})
    assert not yard.ledger.learned  # so little is not worth a write
    assert yard.end("a")
    assert yard.ledger.learned  # now it is
    assert yard.look(0, 0) == ["a"]
    engine.machine.saw(Fact.FREED, 0)
    yard.ready("a", gpu0=8)
    yard.look(6, 0, told={"a": {"gpu0": 6}})
    assert [peak / GIB for peak in engine.history.measured.peaks["GPU-0"]] == [
        pytest.approx(8.1),
        6,
    ]
    assert engine.need == 6 * GIB


def test_a_declared_need_is_never_replaced_and_the_measured_one_is_told_beside_it(
    yard: Yard,
) -> None:
    yard.look(0, 0)
    engine = yard.ready("b", gpu0=10)
    assert yard.ledger.measured(engine) is None
    yard.look(12, 0, told={"b": {"gpu0": 11}})
    assert (gib(engine.booking), engine.source, engine.need) == (
        {"gpu0": 10},
        "declared",
        10 * GIB,
    )
    assert yard.ledger.measured(engine) == 11 * GIB
    assert yard.strangers == [1, 0]


def test_an_unknown_need_is_the_whole_box_until_it_was_measured_on_any_pool(yard: Yard) -> None:
    yard.look(0, 0)
    engine = yard.ready("c", gpu0=24, gpu1=24, host=64)
    assert (engine.takes_whole_box, engine.need) == (True, None)
    yard.look(0, 7, told={"c": {"gpu1": 7, HOST: 2}})
    assert gib(engine.booking) == {"gpu1": 7}
    assert (engine.source, engine.placements) == ("learned", ({"gpu1": 7 * GIB},))
    assert not engine.takes_whole_box
    assert engine.candidate(BOX).placements == engine.placements


def test_on_the_host_a_measurement_only_raises_an_estimate(yard: Yard) -> None:
    engine = yard.ready("h", host=4)
    PIDS["h"] = 400
    yard.look(told={"h": {HOST: 3}})
    assert (gib(engine.booking), engine.source) == ({HOST: 4}, "estimated")
    yard.look(told={"h": {HOST: 5}})
    assert (gib(engine.booking), engine.source) == ({HOST: 5}, "learned")
    assert not yard.end("h")  # nothing of the host's is waited for
    assert yard.ledger.measured(engine) == 5 * GIB


def test_what_an_earlier_sidecar_has_measured_is_the_need_where_it_was_measured(
    yard: Yard,
) -> None:
    yard.engines["a"].history.measured = Measured(peaks={"GPU-1": (3 * GIB, 4 * GIB)})
    yard.ledger.recalled()
    assert [gib(one) for one in yard.engines["a"].placements] == [{"gpu0": 10}, {"gpu1": 4}]
    assert yard.engines["a"].need == 10 * GIB
    assert yard.ledger.measured(yard.engines["a"]) == 4 * GIB


def test_a_gpu_of_which_nothing_was_kept_is_one_that_nobody_measured(yard: Yard) -> None:
    yard.engines["a"].history.measured = Measured(peaks={"GPU-1": ()})
    yard.ledger.recalled()
    assert [gib(one) for one in yard.engines["a"].placements] == [{"gpu0": 10}, {"gpu1": 10}]


def test_a_gpu_that_comes_later_has_its_measurements_too(yard: Yard) -> None:
    engine = yard.engines["a"]
    engine.history.measured = Measured(peaks={"GPU-new": (4 * GIB,)})
    yard.ledger.recalled()
    assert engine.source == "estimated"
    capacity = {**BOX, "gpu2": 24 * GIB}
    assert yard.ledger.supplied(capacity, {"GPU-new": "gpu2"}, None)
    assert not yard.ledger.supplied(capacity, {"GPU-new": "gpu2"}, None)
    assert [gib(one) for one in engine.placements][-1] == {"gpu2": 4}


# Measured by the difference.


def test_where_no_process_is_named_the_difference_that_a_start_makes_is_its_use(
    yard: Yard,
) -> None:
    yard.look(2, 0)
    engine = yard.start("a", gpu0=10)
    yard.look(6, 1)
    assert yard.strangers == [2, 1]  # what loads there is not known yet
    yard.ready("a")
    assert yard.ledger.is_awaited
    yard.look(9, 1)
    assert (gib(engine.booking), yard.strangers) == ({"gpu0": 7}, [2, 1])
    assert not yard.ledger.is_awaited
    assert yard.ledger.one_start_at_a_time
    yard.look(12, 1)  # from now on, what changes is others'
    assert (gib(engine.booking), yard.strangers) == ({"gpu0": 7}, [5, 1])


@pytest.mark.parametrize("disturbance", ["starts", "ends", "starts before"])
def test_a_difference_is_no_measure_if_another_of_ours_came_or_went_there(
    yard: Yard, disturbance: str
) -> None:
    yard.look(0, 0)
    if disturbance == "starts before":
        yard.start("b", gpu0=10)
    elif disturbance == "ends":
        yard.ready("b", gpu0=10)
        yard.look(5, 0)
    engine = yard.start("a", gpu0=10)
    if disturbance == "starts":
        yard.start("b", gpu0=10)
    elif disturbance == "ends":
        yard.end("b")
    yard.ready("a")
    yard.look(9, 0)
    assert gib(engine.booking) == {"gpu0": 10}
    assert "GPU-0" not in engine.history.measured.peaks


def test_what_happens_on_another_gpu_does_not_spoil_a_difference(yard: Yard) -> None:
    yard.look(0, 0)
    engine = yard.start("a", gpu0=10)
    yard.ready("b", gpu1=10)
    yard.ready("a")
    yard.look(6, 9)
    assert gib(engine.booking) == {"gpu0": 6}


def test_who_takes_next_to_nothing_of_its_gpu_has_not_been_measured_there(yard: Yard) -> None:
    yard.look(3, 0)
    engine = yard.ready("a", gpu0=10)
    yard.look(3.1, 0)
    assert (gib(engine.booking), engine.source) == ({"gpu0": 10}, "estimated")
    assert yard.strangers == [pytest.approx(3.1), 0]


def test_a_difference_below_zero_measures_nothing(yard: Yard) -> None:
    yard.look(12, 0)
    engine = yard.ready("a", gpu0=10)
    yard.look(6, 0)  # a stranger has left
    assert (gib(engine.booking), yard.ledger.held("gpu0")) == ({"gpu0": 10}, 10 * GIB)
    assert (engine.history.measured.peaks, yard.strangers) == ({}, [0, 0])


def test_a_gpu_that_is_lost_meanwhile_is_not_measured(yard: Yard) -> None:
    yard.look(0, 0)
    engine = yard.ready("a", gpu1=10)
    yard.look(0)
    assert gib(engine.booking) == {"gpu1": 10}
    assert not yard.end("a")


# Memory on its way back.


def test_an_engine_is_gone_when_its_memory_is_back(yard: Yard) -> None:
    yard.look(2, 0)
    yard.ready("a", gpu0=10)
    yard.look(8, 0, told={"a": {"gpu0": 6}})
    yard.engines["a"].machine.saw(Fact.LET_GO, 1)
    yard.look(5, 0, now=1)  # it has begun to give it back
    assert yard.ledger.ended(yard.engines["a"], 1)
    yard.engines["a"].machine.saw(Fact.ENDED, 1)
    assert yard.look(2, 0, at=0.5, now=1) == []  # that look began before its end
    assert yard.look(5, 0, at=1, now=1) == []
    assert yard.ledger.is_awaited
    assert yard.look(2.1, 0, at=2, now=2) == ["a"]
    assert yard.ledger.lost == []
    assert not yard.ledger.is_awaited


def test_two_that_go_at_once_wait_each_for_its_own(yard: Yard) -> None:
    yard.look(0, 0)
    yard.ready("a", gpu0=10)
    yard.ready("b", gpu0=10)
    yard.look(14, 0, told={"a": {"gpu0": 8}, "b": {"gpu0": 6}})
    yard.end("a")
    yard.end("b")
    assert yard.look(10, 0) == []
    assert yard.look(8, 0) == ["b"]  # as much is back as it held
    assert yard.look(0, 0) == ["a"]


def test_what_another_has_booked_and_not_taken_yet_is_not_back(yard: Yard) -> None:
    yard.look(0, 0)
    yard.ready("a", gpu0=10)
    yard.look(8, 0, told={"a": {"gpu0": 8}})
    yard.start("b", gpu0=10)
    yard.end("a")
    assert yard.look(8, 0) == []
    assert yard.look(11, 0, told={"b": {"gpu0": 3}}) == []
    assert yard.look(4, 0, told={"b": {"gpu0": 4}}) == ["a"]


def test_whose_processes_are_elsewhere_starts_alone_whatever_is_told_of_others() -> None:
    yard = Yard("b")
    yard.look(0, 0)
    yard.ready("a", gpu0=10)
    yard.look(8, 5, told={"a": {"gpu0": 8}, "c": {"gpu1": 5}})
    assert yard.ledger.one_start_at_a_time == {"gpu0", "gpu1"}
    yard.start("b", gpu0=10)
    yard.end("a")
    assert yard.look(8, 5) == ["a"], "these may be what the other has taken"


def test_memory_that_does_not_come_back_is_others_after_5_s_and_a_problem(yard: Yard) -> None:
    yard.look(2, 0)
    yard.ready("a", gpu0=10)
    yard.look(8, 0, told={"a": {"gpu0": 6}})
    yard.end("a", now=10)
    assert yard.ledger.deadline == 10 + RETURNS_WITHIN
    assert yard.look(7, 0, now=12) == []  # some has come
    assert yard.ledger.deadline == 12 + RETURNS_WITHIN
    assert yard.look(7, 0, now=16) == []
    assert yard.look(7.5, 0, now=16.5) == []  # more than before is no hope
    assert yard.ledger.returned(17) == ["a"]
    assert list(map(str, yard.ledger.lost)) == [
        "GPU 0: 5.5 GiB of a did not come back within 5 s: treated as others'"
    ]
    assert (yard.strangers, yard.ledger.deadline) == ([7.5, 0], math.inf)
    yard.look(7.5, 0)
    assert yard.ledger.lost
    yard.look(2, 0)
    assert (yard.ledger.lost, yard.strangers) == ([], [2, 0])


def test_a_driver_that_tells_nothing_new_holds_up_nobody_for_more_than_5_s(yard: Yard) -> None:
    yard.look(6, 0)
    yard.ready("b", gpu0=6)
    yard.look(6, 0, at=1)
    yard.end("b", now=10)
    assert yard.look(6, 0, at=1, now=12) == []
    assert yard.ledger.returned(15) == ["b"]


def test_memory_of_a_gpu_that_is_lost_meanwhile_is_not_waited_for(yard: Yard) -> None:
    yard.look(0, 0)
    yard.ready("a", gpu1=10)
    yard.look(0, 6, told={"a": {"gpu1": 6}})
    yard.end("a")
    assert yard.look(0) == ["a"]


def test_where_no_gpu_can_be_seen_nothing_is_waited_for(yard: Yard) -> None:
    yard.ready("a", gpu0=10)
    assert not yard.end("a")
    assert not yard.ledger.one_start_at_a_time


def test_a_named_process_that_is_not_listed_for_a_moment_hides_strangers(yard: Yard) -> None:
    yard.look(2, 0)
    yard.ready("a", gpu0=10)
    yard.look(8, 0, told={"a": {"gpu0": 6}})
    yard.look(2, 0)  # it has crashed, and nobody has noticed
    assert yard.strangers == [2, 0]


def test_a_look_that_shows_an_engine_with_more_than_is_used_tells_nothing_of_strangers(
    yard: Yard,
) -> None:
    yard.look(6, 0)
    yard.start("a", gpu0=10)
    yard.look(6.5, 0, told={"a": {"gpu0": 10}})  # it grew between the two figures
    assert yard.strangers == [6, 0]
    yard.look(10, 0, told={"a": {"gpu0": 10}})
    assert yard.strangers == [0, 0]


# Room that others hold.


def test_what_is_used_beyond_all_that_ours_may_take_is_others_whatever_is_hidden(
    yard: Yard,
) -> None:
    yard.look(2, 0)
    yard.start("a", gpu0=10)
    yard.look(20, 0)
    assert yard.strangers == [10, 0]
    yard.look(11, 0)
    assert yard.strangers == [10, 0], "it may be that these are theirs, or its own"
    yard.look(3, 0)
    assert yard.strangers == [3, 0], "so much is gone that some of it was theirs"
    yard.look(9, 0)
    assert yard.strangers == [3, 0]


def test_who_waits_for_room_that_strangers_hold_fails_after_5_s_without_a_change(
    yard: Yard,
) -> None:
    yard.look(20, 23)
    assert yard.ledger.waits_for_others(["a"], 0)
    assert yard.ledger.is_awaited
    assert not yard.ledger.waits_for_others(["a"], 3)
    assert yard.ledger.deadline == RETURNS_WITHIN
    yard.look(18, 23)
    yard.ledger.waits_for_others(["a"], 4)
    assert yard.ledger.hopeless("a", 5) is None
    assert yard.ledger.deadline == 4 + RETURNS_WITHIN
    assert yard.ledger.hopeless("a", 9) == Exit(
        "vram_oom",
        "needs 10.0 GiB, GPU 0 has 6.0 GiB of 24.0 GiB: 18.0 GiB are used by others",
    )
    assert yard.ledger.waits_for_others([], 9)
    assert (yard.ledger.hopeless("a", 9), yard.ledger.deadline) == (None, math.inf)


def test_room_that_pinned_models_hold_is_told_too(yard: Yard) -> None:
    yard.look(16, 24)
    yard.ready("p", gpu0=5)
    yard.look(16, 24, told={})
    yard.ledger.waits_for_others(["a"], 0)
    exit = yard.ledger.hopeless("a", 9)
    assert exit is not None
    assert "and 5.0 GiB are booked by pinned models, which never leave" in exit.how
