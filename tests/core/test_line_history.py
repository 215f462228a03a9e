"""The line: whatever happens, every request ends once."""

from __future__ import annotations

import math
import random

import pytest

from router.effects import Effect, Lost, News, Send
from router.queue import Ticket
from shared.demand import ModelDemand
from shared.status import ModelStatus, Phase
from tests.core.lines import failed, new_line, says
from tests.core.said import idle, load_error, never_fits, ready, starting, status, ticket


class History:
    """Plays at random what can happen to a line, and keeps the books on its own."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.line = new_line("ab", "xyz", max_waiting=12, max_bytes=60, max_wait=40.0)
        self.now = 0.0
        self.seq = 1
        self.boots = {"a": "b1", "b": "b1"}
        self.waiting: dict[str, Ticket] = {}
        self.served: dict[str, tuple[Ticket, str]] = {}
        self.ended: set[str] = set()
        self.sent = {(box, model): 0 for box in "ab" for model in "xyz"}

    def play(self, steps: int) -> None:
        for n in range(steps):
            self.now += self.rng.random() * 2
            told = {box: self.line.demand_key(box) for box in "ab"}
            self.line.take_touched()
            self._step(n)
            touched = self.line.take_touched()
            assert all(self.line.demand_key(box) == told[box] for box in {"a", "b"} - touched)
            self._check()

    def end(self) -> None:
        for one, _ in list(self.served.values()):
            self._leave(one)
        self._apply(self.line.tick(self.now + 100.0))
        self.now += 100.0

    def _step(self, n: int) -> None:
        kinds = [self._arrive, self._arrive, self._hear, self._leave_any, self._refuse]
        kinds += [self._tick, self._tick, self._lose, self._break_off]
        self.rng.choice(kinds)(n)

    def _arrive(self, n: int) -> None:
        rng = self.rng
        one = Ticket(str(n), rng.choice("xyz"), self.now, rng.choice([0, 0, 1]), rng.randrange(9))
        self.waiting[one.id] = one
        self._apply(self.line.arrived(one, self.now))

    def _hear(self, n: int) -> None:
        box = self.rng.choice("ab")
        if self.rng.random() < 0.1:
            self.boots[box] = f"b{n}"
        self.seq += 1
        said = status(*map(self._model, "xyz"), box=box, boot=self.boots[box], seq=self.seq)
        self._apply(self.line.heard(box, said, self.now))

    def _model(self, id: str) -> ModelStatus:
        kinds = [ready(id, 2, in_flight=self.rng.randrange(3)), ready(id, 3, routers=2), idle(id)]
        kinds += [starting(id), ModelStatus(id, Phase.SWITCHING), idle(id, load_error(999.0))]
        kinds += [idle(id, load_error(1000.0, retry_in_s=3.0)), idle(id, never_fits())]
        return self.rng.choice(kinds)

    def _leave_any(self, n: int) -> None:
        tickets = [*self.waiting.values(), *(one for one, _ in self.served.values())]
        if tickets:
            self._leave(self.rng.choice(tickets))

    def _leave(self, one: Ticket) -> None:
        self.waiting.pop(one.id, None)
        self.served.pop(one.id, None)
        self.ended.add(one.id)
        self._apply(self.line.left(one, self.now))

    def _refuse(self, n: int) -> None:
        if self.served:
            one, box = self.served.pop(self.rng.choice(list(self.served)))
            self.waiting[one.id] = one
            self._apply(self.line.refused(one, self.boots[box], self.seq, self.now))

    def _break_off(self, n: int) -> None:
        if self.served:
            one, _ = self.served.pop(self.rng.choice(list(self.served)))
            self.waiting[one.id] = one
            self._apply(self.line.broken_off(one, self.now))

    def _lose(self, n: int) -> None:
        box, silent = self.rng.choice("ab"), self.rng.random() < 0.5
        effects = self.line.lost(box, self.now, silent=silent)
        lost = {effect.ticket.id for effect in effects if isinstance(effect, Lost)}
        assert lost == {id for id, (_, at) in self.served.items() if silent and at == box}
        self._apply([effect for effect in effects if not isinstance(effect, Lost)])

    def _tick(self, n: int) -> None:
        deadline = self.line.deadline(self.now)
        if deadline < math.inf:
            self.now = max(self.now, deadline)
            self._apply(self.line.tick(self.now))
            assert self.line.deadline(self.now) > self.now, "a deadline that is over is over"

    def _apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, News | Lost):
                continue
            one = self.waiting.pop(effect.ticket.id)  # else: told twice, or out of nothing
            if isinstance(effect, Send):
                same = [t for t in self.waiting.values() if t.model == one.model]
                assert one == min([one, *same], key=by_priority_and_arrival), "out of turn"
                assert self.line.boxes[effect.box].live
                self.served[one.id] = (one, effect.box)
                self.sent[effect.box, one.model] += 1
            else:
                self.ended.add(one.id)
                self._apply(self.line.left(one, self.now))

    def _check(self) -> None:
        queues = self.line.waiting()
        assert {t.id for queue in queues.values() for t in queue} == set(self.waiting)
        assert not self.ended & (set(self.waiting) | set(self.served))
        assert len(self.waiting) <= 12 + len(self.sent)
        for model, queue in queues.items():
            assert len(queue) > 0
            asked = [
                box for box in "ab" if self.line.demand(box, self.now).get(model, NONE).waiting
            ]
            assert set(asked) == set(self.line.asked(model))
            others = [box for box in asked if not self.line.boxes[box].holds(model)]
            assert len(others) <= 1, "of those that do not hold it one is told, never all"
            if asked:
                assert self.line.placed(model) in asked
            for box in asked:
                wanted = self.line.demand(box, self.now)[model]
                assert sum(wanted.waiting.values()) == len(queue)
            assert all(box.free_slots(model) <= 0 for box in self.line.boxes.values())
            for one in queue:
                assert self.line.tell(one, self.now).position >= 1
        for (box, model), sent in self.sent.items():
            assert self.line.demand(box, self.now).get(model, NONE).sent == sent


def by_priority_and_arrival(one: Ticket) -> tuple[int, float, str]:
    return (-one.priority, one.arrived, one.id)


NONE = ModelDemand()


@pytest.mark.parametrize("seed", range(8))
def test_in_any_history_every_request_ends_once_and_nobody_is_lost(seed: int) -> None:
    history = History(seed)
    history.play(120)
    history.end()
    assert not history.waiting
    assert not history.served
    assert history.line.waiting() == {}
    says(history.line, "a", idle("x"), seq=10**6, boot="last", now=history.now)
    last = ticket("last", arrived=history.now, size=60)
    assert failed(history.line.arrived(last, history.now)) == {}, "no byte is counted that left"
