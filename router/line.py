"""The line: who is served where, who is next, who is told what.

Rule 1: every such decision is made in `_settle`, and nowhere else.
Rule 2: this file does no I/O, reads no clock and never awaits.

Methods are named after what happened and return what to do about it. What is known of a box is
advice, never permission: its sidecar may refuse a request, which then is at its old place again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from router.crowd import Crowd
from router.effects import Effect, Fail, News, Send
from router.failures import failed_load, load_failed, nobody_can, shutting_down
from router.limits import LineLimits, over_limit
from router.placement import candidates, choose, with_most_room
from router.queue import Queue, Ticket
from router.story import Story, Tell, served_on, story_of
from router.view import BoxView
from shared.demand import ModelDemand
from shared.errors import QueueTimeout, SwapyardError
from shared.status import Catalogue, Status


class Line:
    def __init__(
        self, limits: LineLimits, boxes: Iterable[str], optional: Iterable[str] = ()
    ) -> None:
        may_be_off = frozenset(optional)
        self.boxes = {key: BoxView(key, key, optional=key in may_be_off) for key in boxes}
        self._limits = limits
        self._crowd = Crowd()
        self._queues = self._crowd.queues  # by model; none of them empty
        self._served_at: dict[str, tuple[Ticket, str]] = {}
        self._placed: dict[str, str] = {}  # model -> box
        self._stories: dict[str, Story] = {}
        self._loaded_for: set[str] = set()  # models whose line has seen a load
        self._closing = False

    # What happens.

    def arrived(self, ticket: Ticket, now: float) -> list[Effect]:
        full = self._full(ticket, now)
        if full is not None:
            return [Fail(ticket, full)]
        self._crowd.join(ticket)
        return self._settle([ticket.model], now)

    def left(self, ticket: Ticket, now: float) -> list[Effect]:
        """Answered, failed or hung up: to the line it is all the same."""
        served = self._served_at.pop(ticket.id, None)
        if served is not None:
            self.boxes[served[1]].released(ticket)
            self._crowd.over(ticket)
        else:
            self._leave(ticket)
        return self._settle([ticket.model], now)

    def refused(self, ticket: Ticket, boot: str, seq: int, now: float) -> list[Effect]:
        """The box did not take it: back to its place, and to that box only after newer news."""
        _, box = self._served_at.pop(ticket.id)
        self.boxes[box].refused(ticket, boot, seq)
        if self._closing:
            self._crowd.over(ticket)
            return [Fail(ticket, shutting_down())]
        self._crowd.back(ticket)
        return self._settle([ticket.model], now)

    def unreachable(self, ticket: Ticket, now: float) -> list[Effect]:
        """The box never saw it: as if refused, but it was not sent either."""
        box = self.boxes[self._served_at[ticket.id][1]]
        box.sent[ticket.model] -= 1
        return self.refused(ticket, *box.newest(), now)

    def knows(self, box: str, catalogue: Catalogue, now: float) -> list[Effect]:
        self.boxes[box].know(catalogue)
        return self._settle(self._queues, now)

    def heard(self, box: str, status: Status, now: float) -> list[Effect]:
        self.boxes[box].hear(status, now)
        return self._settle(self._queues, now)

    def lost(self, box: str, now: float, why: str | None = None) -> list[Effect]:
        self.boxes[box].lose(now, why)
        return self._settle(self._queues, now)

    def close(self) -> list[Effect]:
        """Nobody waits here any more; who is served already is served to the end."""
        self._closing = True
        waiting = [ticket for queue in self._queues.values() for ticket in queue]
        failed: list[Effect] = [Fail(ticket, shutting_down()) for ticket in waiting]
        self._drop(failed)
        return failed

    def tick(self, now: float) -> list[Effect]:
        return self._settle(self._queues, now)

    # What can be asked.

    def models(self) -> dict[str, list[BoxView]]:
        """Every model that some box has, and those boxes; lost ones too."""
        models: dict[str, list[BoxView]] = {}
        for box in self.boxes.values():
            for model in box.facts:
                models.setdefault(model, []).append(box)
        return models

    def unheard(self) -> list[str]:
        """Boxes that should be there and never said what they have."""
        expected = (box for box in self.boxes.values() if not box.optional)
        return [box.name for box in expected if box.status is None]

    def all_heard(self) -> bool:
        """Whether nothing is left to be heard of, boxes that may be off among them."""
        return all(box.status is not None for box in self.boxes.values())

    def tell(self, ticket: Ticket, now: float) -> Tell:
        """What the client of a request that waits or is served may know now."""
        if ticket.id in self._served_at:
            return served_on(self.boxes[self._served_at[ticket.id][1]], ticket, now)
        place, ahead = self._queues[ticket.model].index(ticket) + 1, self._ahead(ticket.model)
        story = self._stories[ticket.model]
        return story.tell(place + ahead, elapsed=now - ticket.arrived, now=now, ahead=ahead)

    def waiting(self) -> dict[str, Queue]:
        """The queues, by model; none of them empty."""
        return self._queues

    def placed(self, model: str) -> str | None:
        """The name of the box that is asked for the model, if any is."""
        box = self._box_of(model)
        return box.name if box else None

    def demand(self, box: str, now: float) -> dict[str, ModelDemand]:
        """What this box is asked for: those placed there, and how many were ever sent."""
        view = self.boxes[box]
        models = {model: ModelDemand(sent=sent) for model, sent in view.sent.items()}
        for model, queue in self._placed_on(box):
            oldest = max(0.0, now - queue.oldest())
            models[model] = ModelDemand(queue.waiting(), oldest, view.sent[model])
        return models

    def demand_key(self, box: str) -> Mapping[str, tuple[object, ...]]:
        """Changes exactly when the box must be told."""
        return {model: (queue.waiting(), queue.oldest()) for model, queue in self._placed_on(box)}

    def deadline(self, now: float) -> float:
        """When to call `tick` if nothing happens before."""
        waits = [queue.oldest() + self._limits.max_wait for queue in self._queues.values()]
        graces = [
            box.lost_at + self._limits.box_grace
            for box in self.boxes.values()
            if box.lost_at is not None and now < box.lost_at + self._limits.box_grace
        ]
        return min([*waits, *graces], default=math.inf)

    # What follows.

    def _settle(self, models: Iterable[str], now: float) -> list[Effect]:
        effects: list[Effect] = []
        for model in [model for model in models if model in self._queues]:
            effects += self._serve(model)
            effects += self._fail(model, now)
            effects += self._place(model, now)
            effects += self._narrate(model, now)
        return effects

    def _serve(self, model: str) -> list[Effect]:
        """In order, as long as a box holds the model with a free slot. Warm requests do not wait
        behind those for other models."""
        effects: list[Effect] = []
        while model in self._queues:
            box = with_most_room(model, self.boxes.values())
            if box.free_slots(model) <= 0:
                break
            reason = "loaded" if model in self._loaded_for else "resident"
            ticket = self._crowd.serve(model)
            box.took(ticket)
            self._served_at[ticket.id] = (ticket, box.key)
            effects.append(Send(ticket, box.key, reason))
        self._forget(model)
        return effects

    def _fail(self, model: str, now: float) -> list[Effect]:
        """Those who waited too long, and those whose load has failed since they came."""
        failed: list[Effect] = []
        queue = self._queues.get(model)
        load = failed_load(model, self._box_of(model), self.boxes.values())
        if queue is None or (load is None and now < queue.oldest() + self._limits.max_wait):
            return []
        for ticket in queue:
            if load is not None and ticket.arrived <= load[0]:
                failed.append(Fail(ticket, load_failed(model, load[1], load[1].retry_in_s)))
            elif now >= ticket.arrived + self._limits.max_wait:
                failed.append(Fail(ticket, QueueTimeout(model, now - ticket.arrived)))
        self._drop(failed)
        return failed

    def _place(self, model: str, now: float) -> list[Effect]:
        """Choose the box that is asked for the model, or fail all when there can be none."""
        if model not in self._queues:
            return []
        possible = candidates(model, self.boxes.values(), now)
        if possible:
            current = self._placed.get(model)
            self._placed[model] = choose(model, possible, current, self._per_box()).key
            return []
        self._placed.pop(model, None)
        error = nobody_can(model, self.boxes.values(), self._limits.box_grace, now)
        if error is None:
            return []
        failed: list[Effect] = [Fail(ticket, error) for ticket in self._queues[model]]
        self._drop(failed)
        return failed

    def _narrate(self, model: str, now: float) -> list[Effect]:
        if model not in self._queues:
            return []
        box = self._box_of(model)
        before = self._stories.get(model)
        story = story_of(model, box, self._queues[model].oldest()).after(before)
        self._stories[model] = story
        if story.is_about_a_load:
            self._loaded_for.add(model)
        told = before is not None and before.key == story.key
        return [] if told else [News(model)]

    # Failures.

    def _full(self, ticket: Ticket, now: float) -> SwapyardError | None:
        if self._closing:
            return shutting_down()
        if any(box.free_slots(ticket.model) > 0 for box in self.boxes.values()):
            return None  # it will not wait
        return over_limit(ticket, self._crowd, self._stories, self._limits, now)

    # The line itself.

    def _leave(self, ticket: Ticket) -> None:
        self._crowd.leave(ticket)
        self._forget(ticket.model)

    def _forget(self, model: str) -> None:
        """What belongs to a line that nobody stands in any more."""
        if model not in self._queues:
            self._placed.pop(model, None)
            self._stories.pop(model, None)
            self._loaded_for.discard(model)

    def _drop(self, failed: Iterable[Effect]) -> None:
        for effect in failed:
            assert isinstance(effect, Fail)
            self._leave(effect.ticket)

    def _box_of(self, model: str) -> BoxView | None:
        """The box that is asked for the model."""
        return self.boxes.get(self._placed.get(model, ""))

    def _placed_on(self, box: str) -> list[tuple[str, Queue]]:
        return [(m, self._queues[m]) for m, key in self._placed.items() if key == box]

    def _per_box(self) -> Counter[str]:
        per_box: Counter[str] = Counter()
        for model, box in self._placed.items():
            per_box[box] += len(self._queues[model])
        return per_box

    def _ahead(self, model: str) -> int:
        """Requests for other models that the box's plan serves before this one. What is not in
        the plan yet comes after what is, by age."""
        box = self._box_of(model)
        if box is None:
            return 0
        turns = {
            other: (box.turn_of(other), queue.oldest()) for other, queue in self._placed_on(box.key)
        }
        return sum(len(self._queues[other]) for other in turns if turns[other] < turns[model])
