"""What this router knows of one box: its newest Status, and what it did itself since.

Rule 1: all of it is advice; the sidecar may refuse, and then it is the sidecar that is right.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from router.queue import Ticket
from shared.status import Catalogue, LoadError, ModelFacts, ModelStatus, Phase, Status

HOLDING = (Phase.READY, Phase.STARTING)

# What makes a box worth a look for a model: that it holds it, or the error that it has.
Mark = tuple[Phase | None, LoadError | None]


@dataclass(slots=True)
class BoxView:
    """`key` names the box before it was ever heard, `name` since."""

    key: str
    name: str
    optional: bool = False  # it may be off
    lost_at: float | None = None  # None: live
    trouble: str | None = None  # why it is lost
    heard_at: float = 0.0
    status: Status | None = None
    facts: Mapping[str, ModelFacts] = field(default_factory=dict)
    sent: Counter[str] = field(default_factory=Counter)  # requests by model, ever
    marks: dict[str, Mark] = field(default_factory=dict)  # by model: of the newest Status
    # Where in a Status each model stands. It is hardly ever new: one of many costs little to find.
    _at: dict[str, int] = field(default_factory=dict)
    _at_in: Status | None = None  # for which all of that was looked up
    # Tickets by model, and how many were released: since the newest Status.
    _sent_since: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _released_since: Counter[str] = field(default_factory=Counter)
    _here: Counter[str] = field(default_factory=Counter)  # sent and not over, by model
    _refused: dict[str, tuple[str, int]] = field(default_factory=dict)  # boot and seq of the 409

    @property
    def live(self) -> bool:
        return self.lost_at is None and self.status is not None

    def know(self, catalogue: Catalogue) -> None:
        self.name = catalogue.box
        self.facts = {facts.id: facts for facts in catalogue.models}

    def hear(self, status: Status, now: float) -> None:
        self.status, self.name = status, status.box
        self.lost_at, self.heard_at, self.trouble = None, now, None
        self.marks = {
            model.id: (model.phase if model.phase in HOLDING else None, model.error)
            for model in status.models
            if model.phase is not Phase.IDLE or model.error is not None
        }
        self._sent_since.clear()
        self._released_since.clear()
        self._refused = {
            model: (boot, seq)
            for model, (boot, seq) in self._refused.items()
            if boot == status.boot and seq >= status.seq
        }

    def lose(self, now: float, why: str | None = None) -> None:
        self.trouble = why
        if self.lost_at is None:
            self.lost_at = now

    def has(self, model: str) -> bool:
        return model in self.facts

    def of(self, model: str) -> ModelStatus | None:
        if self.status is None:
            return None
        models, at = self.status.models, self._at.get(model, -1)
        if 0 <= at < len(models) and models[at].id == model:
            return models[at]
        if self._at_in is not self.status:
            self._at_in = self.status
            self._at = {known.id: at for at, known in enumerate(models)}
        at = self._at.get(model, -1)
        return models[at] if at >= 0 else None

    def phase(self, model: str) -> Phase:
        known = self.of(model)
        return known.phase if known else Phase.IDLE

    def holds(self, model: str) -> bool:
        known = self.of(model)
        return self.live and known is not None and known.phase in HOLDING

    def free_slots(self, model: str) -> int:
        """How many more requests may be sent now. A snapshot's free slots are shared evenly with
        the other routers that want the model; what was released here since counts at once.
        A snapshot may be older than what was sent last, or newer than a release that is heard
        here only now: never are more sent than there are slots."""
        known = self.of(model)
        if known is None or known.phase is not Phase.READY:
            return 0
        if self.lost_at is not None or model in self._refused:
            return 0
        free = known.slots - known.in_flight
        if known.routers > 1:
            free = -(-free // known.routers)
        free += self._released_since[model] - len(self._sent_since[model])
        return min(free, known.slots - self._here[model])

    def busy(self, model: str) -> int:
        """Requests in flight: by the newest Status, with what was sent and released since."""
        known = self.of(model)
        since = len(self._sent_since[model]) - self._released_since[model]
        return max((known.in_flight if known else 0) + since, self._here[model])

    def share_taken(self, model: str) -> float:
        """Of its slots; 1 where it has none."""
        known = self.of(model)
        return self.busy(model) / known.slots if known and known.slots else 1.0

    def took(self, ticket: Ticket) -> None:
        self.sent[ticket.model] += 1
        self._sent_since[ticket.model].add(ticket.id)
        self._here[ticket.model] += 1

    def released(self, ticket: Ticket) -> None:
        self._released_since[ticket.model] += 1
        self._here[ticket.model] -= 1

    def refused(self, ticket: Ticket, boot: str, seq: int) -> None:
        """It took no slot. The model is not offered there again before the box has said something
        newer than its refusal, or something at all after a refusal of another boot."""
        self._sent_since[ticket.model].discard(ticket.id)
        self._here[ticket.model] -= 1
        if self.newest()[0] != boot or self.newest()[1] <= seq:
            self._refused[ticket.model] = (boot, seq)

    def turn_of(self, model: str) -> int:
        """In which order the box's plan comes to the models: what it holds first."""
        if self.status is None or self.holds(model):
            return 0
        planned = [entry.model for entry in self.status.plan if entry.action != "drain"]
        return 1 + (planned.index(model) if model in planned else len(planned))

    def newest(self) -> tuple[str, int]:
        """Boot and number of the newest Status."""
        return (self.status.boot, self.status.seq) if self.status else ("", 0)

    def error(self, model: str) -> LoadError | None:
        known = self.of(model)
        return known.error if known else None

    def load_error(self, model: str) -> LoadError | None:
        """Why its newest load failed; None while it holds the model."""
        error = self.error(model)
        return error if error and error.code == "load_failed" and not self.holds(model) else None

    def load_failed_at(self, model: str) -> float | None:
        """By our clock: those who had come before it are answered by it."""
        error = self.load_error(model)
        if error is None or self.status is None:
            return None
        return self.heard_at - (self.status.at - error.at)

    def backs_off_until(self, model: str) -> float:
        error = self.error(model)
        return self.heard_at + (error.retry_in_s or 0.0) if error else 0.0

    def can_never_hold(self, model: str) -> bool:
        error = self.error(model)
        return error is not None and error.code == "does_not_fit"
