"""Which boxes are asked for the models that wait, since when, and what each is told of it.

Rule 1: where a model is placed is decided in `placement.py`; here it is kept and looked at again.
Rule 2: this file does no I/O, reads no clock and never awaits.

A choice is looked at when a box begins or ceases to hold the model or has failed to load it, when
one of its boxes cannot serve it any more, and else now and then: a box that is asked says something
once a second at least, so this needs no deadline of its own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from router.boxes import Boxes
from router.placement import Decision, candidates, decide, may_serve, offers, untried
from router.queue import Queue
from router.view import BoxView
from shared.demand import ModelDemand

LOOK_AGAIN = 0.25  # seconds; a quarter of the time for which a choice stays
LOOKS_PER_SECOND = 200  # at most, however many models wait: with 100 boxes, each takes 0.2 ms


@dataclass(slots=True)
class Choice:
    since: dict[str, float]  # by box: when it was chosen; the first one is told of
    looked_at: float

    @property
    def first(self) -> str:
        return next(iter(self.since))


class Placing:
    def __init__(self, boxes: Boxes, queues: Mapping[str, Queue]) -> None:
        self.nowhere: dict[str, None] = {}  # models that wait and that no box is asked for
        self.touched: set[str] = set()  # boxes whose demand may have changed
        self._boxes = boxes
        self._queues = queues
        self._choices: dict[str, Choice] = {}
        self._on: defaultdict[str, dict[str, None]] = defaultdict(dict)  # models, by box
        # Of those, the models of which the box's Status says nothing yet.
        self._untold: defaultdict[str, dict[str, None]] = defaultdict(dict)

    # What happens.

    def place(self, model: str, now: float) -> bool:
        """Choose the boxes that are asked for it; False where there can be none."""
        choice = self._choices.get(model)
        if choice is not None and not self._is_due(model, choice, now):
            self.touched.update(choice.since)
            return True
        decision = self.decision(model, now)
        if decision is None:
            self.drop(model)
            self.nowhere[model] = None
            return False
        self._ask(model, [box.key for box in decision.boxes], now)
        return True

    def look_again(self, models: Iterable[str]) -> None:
        """Something has changed that a choice may depend on."""
        for model in models:
            if (choice := self._choices.get(model)) is not None:
                choice.looked_at = -math.inf

    def heard(self, box: str) -> None:
        view, untold = self._boxes.views[box], self._untold[box]
        for model in [model for model in untold if tells_of(view, model)]:
            del untold[model]

    def drop(self, model: str) -> None:
        """Nobody waits for it, or nobody can serve it."""
        self._ask(model, [], 0.0)
        self.nowhere.pop(model, None)

    # What can be asked.

    def decision(self, model: str, now: float) -> Decision | None:
        """As it would be taken now; with nobody waiting, for one who does."""
        queue, choice = self._queues.get(model), self._choices.get(model)
        oldest, waiting = (queue.oldest(), len(queue)) if queue else (now, 1)
        possible = candidates(model, self._boxes.having.get(model, ()), now)
        if self._boxes.failed(model):
            possible = untried(model, possible, oldest)
        if not possible:
            return None
        among = offers(model, possible, waiting, now, self.untold)
        return decide(model, among, waiting, choice.since if choice else {}, now)

    def untold(self, box: str) -> Iterable[str]:
        return self._untold.get(box, ())

    def asked(self, model: str) -> Mapping[str, float]:
        """The boxes that are asked for it, and since when."""
        choice = self._choices.get(model)
        return choice.since if choice else {}

    def first(self, model: str) -> BoxView | None:
        """The box that those who wait are told of."""
        choice = self._choices.get(model)
        return self._boxes.views[choice.first] if choice else None

    def on(self, box: str) -> Iterable[str]:
        """The models that this box is asked for."""
        return self._on.get(box, ())

    def demand(self, box: str, now: float) -> dict[str, ModelDemand]:
        """What this box is asked for, and how many were ever sent."""
        sent = self._boxes.views[box].sent
        models = {model: ModelDemand(sent=count) for model, count in sent.items()}
        for model in self.on(box):
            queue = self._queues[model]
            oldest = max(0.0, now - queue.oldest())
            models[model] = ModelDemand(queue.waiting(), oldest, sent[model])
        return models

    def demand_key(self, box: str) -> Mapping[str, tuple[object, ...]]:
        """Changes exactly when the box must be told."""
        queues = {model: self._queues[model] for model in self.on(box)}
        return {model: (queue.waiting(), queue.oldest()) for model, queue in queues.items()}

    def ahead(self, model: str) -> int:
        """Requests for other models that the box's plan serves before this one. What is not in
        the plan yet comes after what is, by age."""
        box = self.first(model)
        if box is None:
            return 0
        queues = {other: self._queues[other] for other in self.on(box.key)}
        if len(queues) == 1:
            return 0
        turns = {other: (box.turn_of(other), queue.oldest()) for other, queue in queues.items()}
        return sum(len(queues[other]) for other in turns if turns[other] < turns[model])

    # How it is kept.

    def _is_due(self, model: str, choice: Choice, now: float) -> bool:
        boxes = [self._boxes.views[key] for key in choice.since]
        pause = max(LOOK_AGAIN, len(self._queues) / LOOKS_PER_SECOND)
        if now >= choice.looked_at + pause:
            return True
        return not all(may_serve(model, box, now) for box in boxes)

    def _ask(self, model: str, boxes: list[str], now: float) -> None:
        before = self.asked(model)
        self.touched.update(before, boxes)
        for box in before.keys() - set(boxes):
            del self._on[box][model]
            self._untold[box].pop(model, None)
        for box in boxes:
            self._on[box][model] = None
            if box not in before and not tells_of(self._boxes.views[box], model):
                self._untold[box][model] = None
        self.nowhere.pop(model, None)
        self._choices.pop(model, None)
        if boxes:
            self._choices[model] = Choice({box: before.get(box, now) for box in boxes}, now)


def tells_of(box: BoxView, model: str) -> bool:
    """Whether its Status knows that the model is wanted there."""
    known = box.of(model)
    return box.holds(model) or (known is not None and known.waiting > 0)
