"""What is going on for those who wait for one model: where, which phase, how far.

Rule 1: nothing is told that the box did not report.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from router.queue import Ticket
from router.view import BoxView
from shared.status import EtaSource, ModelStatus, Phase, ProgressSource, Status, Step, Switch


@dataclass(frozen=True, slots=True)
class Tell:
    """All that one waiting client may know. Times in seconds, `at` in Unix time."""

    model: str
    phase: Phase
    step: str | None
    at: float | None
    from_: tuple[str, ...]
    box: str | None
    position: int
    elapsed_s: float
    eta_s: float | None
    eta_source: EtaSource | None
    progress: float | None
    progress_source: ProgressSource | None


@dataclass(frozen=True, slots=True)
class Story:
    model: str
    phase: Phase
    step: str | None
    box: str | None = None
    at: float | None = None
    from_: tuple[str, ...] = ()
    ready_at: float | None = None  # by the router's clock
    eta_source: EtaSource | None = None
    progress: float | None = None
    progress_source: ProgressSource | None = None
    switch: str | None = None  # which one is told
    slots: int = 1  # who is further behind than that is not served as soon as it is ready
    service_s: float | None = None  # of an answer, the mean
    source: Status | None = field(default=None, compare=False)  # from which all of it was read

    @property
    def key(self) -> tuple[object, ...]:
        """What is told at once when it changes; all else can wait for the next interval."""
        return (self.phase, self.step, self.from_, self.box)

    @property
    def is_about_a_load(self) -> bool:
        return self.phase is not Phase.READY

    def after(self, before: Story | None) -> Story:
        """What is told of one switch, or of one wait for a turn on the same box, does not put off
        what was promised of it, were it only by the time that a message took."""
        if before is None or before.ready_at is None:
            return self
        if (before.box, before.switch) != (self.box, self.switch):
            return self
        if self.ready_at is None or self.ready_at <= before.ready_at:
            return self
        return replace(self, ready_at=before.ready_at, eta_source=before.eta_source)

    def served_in(self, place: int, now: float) -> float | None:
        """Seconds until who has that place among those for this model is served; None if nobody
        knows."""
        if self.phase is not Phase.READY:
            return self._eta(place, now)
        return None if self.service_s is None else place * self.service_s / self.slots

    def _eta(self, place: int, now: float) -> float | None:
        """None also when it should have been ready by now: then nobody knows."""
        if self.ready_at is None or self.ready_at < now:
            return None
        answers = (place - 1) // self.slots  # that each slot gives before
        if answers and self.service_s is None:
            return None
        return self.ready_at - now + answers * (self.service_s or 0.0)

    def tell(self, position: int, elapsed: float, now: float, ahead: int = 0) -> Tell:
        """`ahead`: how many before it wait for other models; what is promised counts them in."""
        eta = self.served_in(position - ahead, now)
        return Tell(
            model=self.model,
            phase=self.phase,
            step=self.step,
            at=self.at,
            from_=self.from_,
            box=self.box,
            position=position,
            elapsed_s=round(elapsed, 3),
            eta_s=None if eta is None else round(eta, 2),
            eta_source=None if eta is None else self.eta_source,
            progress=self.progress,
            progress_source=self.progress_source,
        )


def story_of(model: str, box: BoxView | None) -> Story:
    """The switch that makes room for the model; with none, the model's own phase."""
    if box is None or box.status is None:
        return Story(model, Phase.IDLE, Step.AWAITING_BOX)
    known = box.of(model) or ModelStatus(model)
    switch = box.status.switch_to(model)
    if switch is not None:
        return _switching(box, known, switch)
    return _waiting(box, known)


def served_on(box: BoxView, ticket: Ticket, now: float) -> Tell:
    """For a request whose turn has come."""
    at = box.status.at if box.status else None
    story = Story(ticket.model, Phase.READY, None, box.name, at)
    return story.tell(position=1, elapsed=now - ticket.arrived, now=now)


def _switching(box: BoxView, known: ModelStatus, switch: Switch) -> Story:
    assert box.status is not None
    return Story(
        model=known.id,
        phase=switch.phase,
        step=switch.step,
        box=box.name,
        at=box.status.at,
        from_=switch.from_,
        ready_at=None if switch.eta_s is None else box.heard_at + switch.eta_s,
        eta_source=switch.eta_source,
        progress=switch.progress,
        progress_source=switch.progress_source,
        switch=switch.id,
        slots=known.slots,
        service_s=known.service_s,
        source=box.status,
    )


def _waiting(box: BoxView, known: ModelStatus) -> Story:
    """What the box reckons with for a load that nobody has seen is no promise, nor what it said
    before it had heard that somebody waits: it may have been busy then."""
    assert box.status is not None
    ready, ready_at = known.phase is Phase.READY, None
    step = Step.AWAITING_SLOT if ready else Step.AWAITING_TURN
    if known.step == Step.AWAITING_VRAM:
        step = known.step
    is_told = known.waiting > 0 and known.load_source != "unknown"
    if not ready and known.ready_in_s is not None and is_told:
        ready_at = box.heard_at + known.ready_in_s
    return Story(
        model=known.id,
        phase=known.phase,
        step=step,
        box=box.name,
        at=box.status.at,
        ready_at=ready_at,
        eta_source="size" if known.load_source == "size" else "history",
        slots=known.slots,
        service_s=known.service_s,
        source=box.status,
    )
