"""The judge of a storm's boxes, of their comebacks and of all in all: what it must not let pass."""

from pathlib import Path

import pytest

from tests.faults.storm import logs, verdict
from tests.faults.storm.box_history import BoxHistory, Living, right
from tests.faults.storm.comeback import Comebacks
from tests.faults.storm.history import History
from tests.faults.storm.seat import KEY
from tests.keys import secret


def model(phase: str, in_flight: int = 0, **more: object) -> dict[str, object]:
    facts = {"id": "one", "in_flight": in_flight, "waiting": 0, "slots": 2, "error": None}
    return {**facts, "phase": phase, "step": None, **more}


def status(seq: int, *models: dict[str, object], boot: str = "x", reserved: int = 0) -> dict:  # type: ignore[type-arg]
    memory = [{"kind": "host", "reserved": reserved}]
    return {"boot": boot, "seq": seq, "models": list(models), "memory": memory}


class Judge(BoxHistory):
    def __init__(self) -> None:
        self.found: list[str] = []
        needs = {"one": 60, "two": 60, "three": 10}
        super().__init__("1", needs, 100, 5.0, lambda what, _: self.found.append(what))


STOPPING = {"step": "stopping current model"}


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ([status(1, model("idle")), status(2, model("starting"))], []),
        ([status(1, model("idle")), status(2, model("ready"))], ["a phase that cannot follow"]),
        ([status(1, model("idle")), status(3, model("ready"))], []),  # one was not seen
        ([status(5, model("idle")), status(1, model("ready"), boot="y")], []),  # another life
        ([status(2, model("idle")), status(2, model("idle"))], ["a number that did not rise"]),
        ([status(1, model("ready", 3))], ["in flight out of bounds"]),
        ([status(1, model("ready", -1))], ["in flight out of bounds"]),
        ([status(1, model("ready"), reserved=101)], ["more booked than there is"]),
        (
            [status(1, model("ready", 1)), status(2, model("stopping", 1, **STOPPING))],
            ["a busy model was evicted"],
        ),
        ([status(1, model("ready")), status(2, model("stopping", **STOPPING))], []),
        (
            [
                status(1, model("ready", 1)),
                status(2, model("stopping", 1, step="waiting for VRAM")),  # it had died
            ],
            [],
        ),
        (
            [
                status(1, model("ready", 1)),
                status(2, model("stopping", 1, **STOPPING, error={"code": "engine_died"})),
            ],
            [],
        ),
    ],
)
def test_what_a_box_may_say_of_itself(told: list[dict[str, object]], found: list[str]) -> None:
    judge = Judge()
    for now, one in enumerate(told):
        judge.said(one, float(now))
    assert judge.found == found


def test_a_busy_model_may_be_evicted_when_its_drain_is_over() -> None:
    judge = Judge()
    judge.said(status(1, model("ready", 1)), 0.0)
    judge.said(status(2, model("switching", 1)), 1.0)
    judge.said(status(3, model("stopping", 1, **STOPPING)), 6.0)
    assert judge.found == []


def test_two_engines_of_one_model_are_found() -> None:
    judge = Judge()
    judge.room({"three": Living([7, 8])})
    assert judge.found == ["two engines of one model"]


@pytest.mark.parametrize(
    ("living", "found"),
    [
        ({"one": Living([7]), "three": Living([8], [9, 10])}, []),
        ({"one": Living([7]), "two": Living([8])}, ["more runs than there is room for"]),
        ({"one": Living([], [7]), "two": Living([8])}, ["more runs than there is room for"]),
    ],
)
def test_what_runs_has_room_whatever_is_said(living: dict[str, Living], found: list[str]) -> None:
    judge = Judge()
    judge.room(living)
    assert judge.found == found


@pytest.mark.parametrize(("phase", "pids"), [("ready", []), ("switching", []), ("idle", [7])])
def test_a_status_that_stays_wrong_is_found(phase: str, pids: list[int]) -> None:
    judge = Judge()
    judge.said(status(1, model(phase)), 0.0)
    judge.living({"one": Living(pids)}, 1.0)
    assert judge.found == []
    judge.living({"one": Living(pids)}, 2.5)
    assert judge.found == ["Status and processes differ"]


def test_a_status_that_is_late_for_a_moment_is_let_pass() -> None:
    judge = Judge()
    judge.said(status(1, model("idle")), 0.0)
    judge.living({"one": Living([7])}, 1.0)
    judge.living({}, 2.0)
    judge.living({"one": Living([7])}, 3.0)
    judge.unsettled()
    judge.living({"one": Living([7])}, 4.5)
    assert judge.found == []


def test_what_a_sidecar_said_that_is_gone_is_held_against_nobody() -> None:
    judge = Judge()
    judge.said(status(1, model("ready")), 0.0)
    judge.away()
    for now in (1.0, 5.0):
        judge.living({}, now)
    assert judge.found == []


def test_which_status_is_right() -> None:
    assert right({"one": model("ready"), "two": model("idle")}, {"one": Living([7])})
    assert not right({"one": model("ready")}, {})
    assert not right({"one": model("idle")}, {"one": Living([7])})


def test_an_idle_model_has_no_child_of_an_engine_left() -> None:
    assert not right({"one": model("idle")}, {"one": Living([], [9])})


def test_statuses_that_adjoin_are_counted_and_another_life_adjoins_nothing() -> None:
    judge = Judge()
    for seq, boot in ((1, "x"), (2, "x"), (4, "x"), (5, "y"), (6, "y")):
        judge.said(status(seq, model("idle"), boot=boot), 0.0)
    assert (judge.statuses, judge.adjoining) == (5, 2)


def test_a_drain_of_an_earlier_life_is_no_drain_of_this_one() -> None:
    judge = Judge()
    judge.said(status(1, model("switching", 1)), 0.0)
    judge.away()
    judge.said(status(1, model("switching", 1), boot="y"), 6.0)
    judge.said(status(2, model("stopping", 1, **STOPPING), boot="y"), 7.0)
    assert judge.found == ["a busy model was evicted"]


# A sidecar that comes back.


def test_an_engine_is_ready_since_it_was_last_said_to_become_so() -> None:
    judge = Judge()
    for now, phase in enumerate(("ready", "switching", "ready", "ready")):
        judge.said(status(now, model(phase)), float(now))
    assert judge.ready == {"one": 2.0}
    judge.away()
    assert judge.ready == {"one": 2.0}  # its next sidecar is to take it over
    judge.said(status(1, model("idle"), boot="y"), 9.0)
    assert judge.ready == {}


READY, IDLE = {"phase": "ready", "error": None}, {"phase": "idle", "error": None}


def test_an_engine_that_was_left_ready_and_is_not_taken_over_is_lost() -> None:
    for said, lives in ((IDLE, False), (READY, False), (IDLE, True)):
        comebacks = Comebacks()
        comebacks.judge("quick 7", said, lives=lives, going=False)
        assert len(comebacks.wrong()) == 1


def test_that_engines_were_to_go_is_no_excuse_for_all_of_them() -> None:
    comebacks = Comebacks()
    for _ in range(20):
        comebacks.judge("quick 7", READY, lives=True, going=False)
    comebacks.judge("quick 8", IDLE, lives=False, going=True)
    assert comebacks.wrong() == []
    for _ in range(3):
        comebacks.judge("quick 8", IDLE, lives=False, going=True)
    assert len(comebacks.wrong()) == 1


def test_comebacks_with_nothing_to_take_over_show_nothing() -> None:
    assert Comebacks(seconds=[0.1] * 10).wrong() == ["no engine was ever left ready"]


# In all.


def requests(ok: int, excused: int, failed: int = 0) -> History:
    history = History(lambda asked: "")
    history.asked, history.excused = ok + excused + failed, excused
    history.ends["ok"] = ok
    return history


@pytest.mark.parametrize(
    ("history", "wrong"),
    [
        (requests(80, 5, 15), 0),
        (requests(0, 0), 1),
        (requests(0, 0, 100), 1),  # all of them unreachable: each may fail, not each of them
        (requests(70, 30), 1),
    ],
)
def test_a_storm_in_which_few_are_served_shows_nothing(history: History, wrong: int) -> None:
    assert len(verdict.of_requests(history)) == wrong


def test_a_storm_of_faults_that_meet_nobody_shows_nothing() -> None:
    assert (len(verdict.of_faults(49, 100)), verdict.of_faults(50, 100)) == (1, [])


def test_a_box_that_was_never_looked_at_is_not_right() -> None:
    assert len(verdict.of_box(Judge())) == 3


def test_memory_that_grows_is_found_and_so_is_none_that_was_measured() -> None:
    assert verdict.of_memory({"router": {"grown_mib": 8.0}}) == []
    assert len(verdict.of_memory({"router": {"grown_mib": 8.1}, "sidecar": {}})) == 2


def test_secrets_and_tracebacks_are_found_where_programs_write(tmp_path: Path) -> None:
    for name, said in (
        ("sidecar.yaml", secret(KEY)),
        ("program-1.log", "Traceback (most recent call last):"),
        ("state.json", secret(KEY)),
        ("engine.log", "it was asked nonce-c1-1"),
    ):
        (tmp_path / name).write_text(said)
    found = [what for what, _ in logs.wrong(tmp_path)]
    assert found == ["a secret in a file", "a traceback", "a secret in a file"]
