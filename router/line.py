"""The line: who is served where, who is next, who is told what.

Rule 1: every such decision is made in `_settle`, and nowhere else; who finds nobody before it and
a free slot goes at once where `_settle` would send it.
Rule 2: this file does no I/O, reads no clock and never awaits.

Methods are named after what happened and return what to do about it. What is known of a box is
advice, never permission: its sidecar may refuse a request, which then is at its old place again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from router.agenda import Agenda
from router.boxes import Boxes
from router.crowd import Crowd
from router.effects import Effect, Fail, Lost, News, Send
from router.explain import explain
from router.failures import broken_off, fails, may_return, nobody_can, shutting_down, who_fails
from router.limits import LineLimits, over_limit
from router.placement import candidates, least_taken
from router.placing import Placing
from router.queue import Queue, Ticket
from router.story import Story, Tell, served_on, story_of
from router.view import BoxView
from shared.demand import ModelDemand
from shared.status import Catalogue, Status


class Line:
    def __init__(
        self, limits: LineLimits, boxes: Iterable[str], optional: Iterable[str] = ()
    ) -> None:
        self._boxes = Boxes(boxes, optional)
        self.boxes = self._boxes.views
        self._limits = limits
        self._crowd = Crowd()
        self._queues = self._crowd.queues  # by model; none of them empty
        self._placing = Placing(self._boxes, self._queues)
        self._waits, self._graces = Agenda(), Agenda()  # by model, and by box that was lost
        self._served_at: dict[str, tuple[Ticket, str]] = {}
        self._sent_again: set[str] = set()  # tickets
        self._stories: dict[str, Story] = {}
        self._loaded_for: set[str] = set()  # models whose line has seen a load
        self.closing = False

    # What happens.

    def arrived(self, ticket: Ticket, now: float) -> list[Effect]:
        if self.closing:
            return [Fail(ticket, shutting_down())]
        if ticket.model not in self._queues and (box := self._free(ticket.model)) is not None:
            self._crowd.pass_through(ticket)
            return [self._send(ticket, box)]
        full = over_limit(ticket, self._crowd, self._stories, self._limits, now)
        if full is not None and self._free(ticket.model) is None:
            return [Fail(ticket, full)]
        self._crowd.join(ticket)
        return self._settle([ticket.model], now)

    def left(self, ticket: Ticket, now: float) -> list[Effect]:
        """Answered, failed or hung up: to the line it is all the same."""
        served = self._served_at.pop(ticket.id, None)
        self._sent_again.discard(ticket.id)
        if served is not None:
            self.boxes[served[1]].released(ticket)
            self._crowd.over(ticket)
        else:
            self._leave(ticket)
        return self._settle([ticket.model], now) if ticket.model in self._queues else []

    def refused(self, ticket: Ticket, boot: str, seq: int, now: float) -> list[Effect]:
        """The box did not take it: back to its place, and to that box only after newer news."""
        _, box = self._served_at.pop(ticket.id)
        self.boxes[box].refused(ticket, boot, seq)
        if self.closing:
            self._crowd.over(ticket)
            return [Fail(ticket, shutting_down())]
        self._crowd.back(ticket)
        return self._settle([ticket.model], now)

    def unreachable(self, ticket: Ticket, now: float) -> list[Effect]:
        """The box never saw it: as if refused, but it was not sent either."""
        box = self.boxes[self._served_at[ticket.id][1]]
        box.sent[ticket.model] -= 1
        return self.refused(ticket, *box.newest(), now)

    def broken_off(self, ticket: Ticket, now: float) -> list[Effect]:
        """The box was gone before an answer began: once, it is as if it had refused."""
        if ticket.id not in self._sent_again:
            self._sent_again.add(ticket.id)
            box = self.boxes[self._served_at[ticket.id][1]]
            return self.refused(ticket, *box.newest(), now)
        return [Fail(ticket, broken_off(ticket.model)), *self.left(ticket, now)]

    def knows(self, box: str, catalogue: Catalogue, now: float) -> list[Effect]:
        self._boxes.know(box, catalogue)
        self._placing.look_again(self._queues)
        return self._settle(self._queues, now)

    def heard(self, box: str, status: Status, now: float) -> list[Effect]:
        """Concerns those who wait for what it is asked for, what it holds, and what no box serves:
        the rest of its models are no cause to do anything."""
        changed = self._boxes.hear(box, status, now)
        self._graces.drop(box)
        self._placing.heard(box)
        self._placing.look_again(changed)
        view, nowhere = self.boxes[box], self._placing.nowhere
        free = [model for model in nowhere if view.has(model)]
        return self._settle([*self._placing.on(box), *changed, *view.marks, *free], now)

    def lost(
        self, box: str, now: float, why: str | None = None, silent: bool = False
    ) -> list[Effect]:
        """`silent`: nothing ended its connections, so what is served there may hang for ever."""
        view = self.boxes[box]
        view.lose(now, why)
        assert view.lost_at is not None
        if now < view.lost_at + self._limits.box_grace:
            self._graces.set(box, view.lost_at + self._limits.box_grace)
        served = [ticket for ticket, at in self._served_at.values() if silent and at == box]
        return [*map(Lost, served), *self._settle([*self._placing.on(box)], now)]

    def close(self) -> list[Effect]:
        """Nobody waits here any more; who is served already is served to the end."""
        self.closing = True
        waiting = [ticket for queue in self._queues.values() for ticket in queue]
        failed: list[Effect] = [Fail(ticket, shutting_down()) for ticket in waiting]
        self._drop(failed)
        return failed

    def tick(self, now: float) -> list[Effect]:
        due = self._waits.due(now)
        if self._graces.due(now):
            due += self._placing.nowhere
        return self._settle(due, now)

    # What can be asked.

    def models(self) -> dict[str, list[BoxView]]:
        """Every model that some box has, and those boxes; lost ones too."""
        return self._boxes.having

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
        place = self._queues[ticket.model].index(ticket) + 1
        ahead = self._placing.ahead(ticket.model)
        story = self._stories[ticket.model]
        return story.tell(place + ahead, elapsed=now - ticket.arrived, now=now, ahead=ahead)

    def waiting(self) -> dict[str, Queue]:
        """The queues, by model; none of them empty."""
        return self._queues

    def count(self) -> int:
        """How many wait, for whatever."""
        return len(self._crowd)

    def placed(self, model: str) -> str | None:
        """The name of the box that is asked for the model, if any is; of several, the one that
        will serve soonest."""
        box = self._placing.first(model)
        return box.name if box else None

    def asked(self, model: str) -> list[str]:
        """Every box that is asked for the model, by its key."""
        return list(self._placing.asked(model))

    def explain(self, model: str, now: float) -> dict[str, Any]:
        """Which boxes would be asked for the model now, and why: for people."""
        waiting = len(self._queues.get(model, ()))
        boxes, decision = self._boxes.having[model], self._placing.decision(model, now)
        serves = least_taken(model, self._boxes.holding(model))
        return explain(model, boxes, serves, decision, waiting, self.asked(model), now)

    def demand(self, box: str, now: float) -> dict[str, ModelDemand]:
        """What this box is asked for: those placed there, and how many were ever sent."""
        return self._placing.demand(box, now)

    def demand_key(self, box: str) -> Mapping[str, tuple[object, ...]]:
        """Changes exactly when the box must be told."""
        return self._placing.demand_key(box)

    def take_touched(self) -> set[str]:
        """The boxes whose demand may have changed since this was last asked."""
        if touched := self._placing.touched:
            self._placing.touched = set()
        return touched

    def deadline(self, now: float) -> float:
        """When to call `tick` if nothing happens before."""
        return min(self._waits.first(), self._graces.first())

    # What follows.

    def _settle(self, models: Iterable[str], now: float) -> list[Effect]:
        effects: list[Effect] = []
        for model in [model for model in dict.fromkeys(models) if model in self._queues]:
            effects += self._serve(model)
            effects += self._fail(model, now)
            effects += self._place(model, now)
            effects += self._narrate(model, now)
            if model in self._queues:
                self._waits.set(model, self._queues[model].oldest() + self._limits.max_wait)
        return effects

    def _serve(self, model: str) -> list[Effect]:
        """In order, as long as a box holds the model with a free slot. Warm requests do not wait
        behind those for other models."""
        effects: list[Effect] = []
        while model in self._queues:
            box = self._free(model)
            if box is None:
                break
            effects.append(self._send(self._crowd.serve(model), box))
        self._forget(model)
        return effects

    def _free(self, model: str) -> BoxView | None:
        """Where one who comes next may be served."""
        return least_taken(model, self._boxes.marked(model))

    def _send(self, ticket: Ticket, box: BoxView) -> Send:
        box.took(ticket)
        self._served_at[ticket.id] = (ticket, box.key)
        reason = "loaded" if ticket.model in self._loaded_for else "resident"
        return Send(ticket, box.key, reason)

    def _fail(self, model: str, now: float) -> list[Effect]:
        """Those who waited too long, and those whose load has failed wherever it may be tried."""
        queue, failed = self._queues.get(model), self._boxes.failed(model)
        if queue is None or not (failed or now >= queue.oldest() + self._limits.max_wait):
            return []
        boxes, grace = self._boxes.having.get(model, []), self._limits.box_grace
        possible = [*candidates(model, boxes, now), *may_return(boxes, grace, now)]
        ended = who_fails(model, queue, failed, possible, self._limits.max_wait, now)
        self._drop(ended)
        return ended

    def _place(self, model: str, now: float) -> list[Effect]:
        """Choose the boxes that are asked for the model, or fail all when there can be none."""
        if model not in self._queues or self._placing.place(model, now):
            return []
        boxes = self._boxes.having.get(model, ())
        error = nobody_can(model, boxes, self._limits.box_grace, now)
        if error is None:
            return []
        failed: list[Effect] = [fails(ticket, error) for ticket in self._queues[model]]
        self._drop(failed)
        return failed

    def _narrate(self, model: str, now: float) -> list[Effect]:
        if model not in self._queues:
            return []
        box = self._placing.first(model)
        before, source = self._stories.get(model), box.status if box else None
        if before is not None and before.source is source:
            return []  # one more has come, or one has gone
        story = story_of(model, box).after(before)
        self._stories[model] = story
        if story.is_about_a_load:
            self._loaded_for.add(model)
        told = before is not None and before.key == story.key
        return [] if told else [News(model)]

    # The line itself.

    def _leave(self, ticket: Ticket) -> None:
        self._crowd.leave(ticket)
        self._forget(ticket.model)

    def _forget(self, model: str) -> None:
        """What belongs to a line that nobody stands in any more."""
        if model not in self._queues:
            self._placing.drop(model)
            self._waits.drop(model)
            self._stories.pop(model, None)
            self._loaded_for.discard(model)

    def _drop(self, failed: Iterable[Effect]) -> None:
        for effect in failed:
            assert isinstance(effect, Fail)
            self._leave(effect.ticket)
