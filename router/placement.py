"""Which boxes should serve a model that waits.

Rule 1: this is advice to the line: what it places, a sidecar may still refuse.
Rule 2: this file does no I/O, reads no clock and never awaits.

One box is told, never all: every box would load it. It is the one where the last who waits is
served first by what we expect; boxes that hold the model come before all others. A choice stays
unless another is clearly better. A further box is told when the copies that are ready would take
long beside the time that it needs. A load that would fail anywhere is not tried everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from router.expect import Expected, expected, served_by
from router.view import BoxView
from shared.status import ModelStatus, Phase

# Rules that a simulation of fleets has chosen; 0.5 against 1: 20 to 45 % less waiting for a hot
# model, and no hysteresis at all: 7 to 9 % more loads.
MUCH_BETTER = 0.9  # of the time that is expected of the choice
SETTLED = 1.0  # seconds for which a choice stays, whatever is better
WORTH_A_COPY = 0.5  # of the time that another box would need

ANYWHERE = ("file_missing", "bad_flag", "crashed")  # causes that any box would meet


class Offer(NamedTuple):
    """One box that may serve the model, and what is expected of it."""

    box: BoxView
    expected: Expected
    phase: Phase
    total: float  # of what is expected, by milliseconds: what differs by less is the same

    @property
    def needs(self) -> float:
        """Until a copy there helps. Its own share of the line would be no measure: a box of its
        own for all who wait looks the worse the longer the line is."""
        return self.expected.load + self.expected.disturbs + self.expected.others

    @property
    def holds(self) -> bool:
        return self.phase is Phase.READY or self.phase is Phase.STARTING


@dataclass(frozen=True, slots=True)
class Decision:
    among: Sequence[Offer]
    first: Offer
    boxes: tuple[BoxView, ...]  # that are asked, `first` among them
    served_s: float = inf  # until the copies that are ready have served all who wait
    copy: Offer | None = None  # the box that may get a further copy, or is getting it

    @property
    def wants_copy(self) -> bool:
        return self.copy is not None and self.served_s > WORTH_A_COPY * self.copy.needs


# Who may serve it.


def candidates(model: str, boxes: Collection[BoxView], now: float) -> list[BoxView]:
    """Boxes that could serve it, of those that have it."""
    return without_a_tour(model, boxes, [box for box in boxes if may_serve(model, box, now)])


def may_serve(model: str, box: BoxView, now: float) -> bool:
    if not box.live or not box.has(model):
        return False
    if box.error(model) is None:
        return True
    if box.can_never_hold(model):
        return False
    return box.holds(model) or now >= box.backs_off_until(model)


def without_a_tour(model: str, boxes: Iterable[BoxView], possible: list[BoxView]) -> list[BoxView]:
    """A load that failed for a cause that any box would meet is tried again where it failed, and on
    one further box, and there only if nobody must leave for it."""
    failed = [box for box in boxes if would_fail_anywhere(model, box)]
    if not failed:
        return possible
    home = min(failed, key=lambda box: affinity(model, box))
    tries = possible if len(failed) == 1 else failed
    return [
        box
        for box in possible
        if box.holds(model) or box is home or (box in tries and costs_nobody(model, box))
    ]


def would_fail_anywhere(model: str, box: BoxView) -> bool:
    error = box.load_error(model)
    return box.live and error is not None and error.cause in ANYWHERE


def costs_nobody(model: str, box: BoxView) -> bool:
    known = box.of(model)
    return known is not None and known.ready_in_s is not None and known.disturbs_s == 0.0


def untried(model: str, possible: Iterable[BoxView], arrived: float) -> list[BoxView]:
    """Those where no load has failed since a request came."""
    return [box for box in possible if (box.load_failed_at(model) or -inf) < arrived]


# Who should.


def offers(
    model: str,
    boxes: Iterable[BoxView],
    waiting: int,
    now: float,
    asked: Callable[[str], Iterable[str]] = lambda box: (),
) -> list[Offer]:
    """`asked`: models for which a box was asked, and of which its Status says nothing yet."""
    among = []
    for box in boxes:
        known = box.of(model) or ModelStatus(model)
        seconds = expected(known, box, waiting, now, asked(box.key))
        among.append(Offer(box, seconds, known.phase, round(sum(seconds), 3)))
    return among


def decide(
    model: str, among: Sequence[Offer], waiting: int, since: Mapping[str, float], now: float
) -> Decision:
    """`since`: when each box that is asked was chosen, the first of them first."""
    settled = {key for key, chosen in since.items() if now >= chosen + SETTLED}
    asked = list(since)
    holding = [offer for offer in among if offer.holds]
    first = choose(model, holding or among, asked[:1], settled)
    ready = [offer for offer in holding if offer.phase is Phase.READY]
    starting = [offer for offer in holding if offer.phase is Phase.STARTING]
    further = starting or [offer for offer in among if not offer.holds]
    if not ready or not further:
        return Decision(among, first, (first.box,))
    served = served_by(model, (offer.box for offer in ready), waiting)
    copy = choose(model, further, asked, settled)
    alone = Decision(among, first, (first.box,), served, copy)
    if not alone.wants_copy:
        return alone
    every = {offer.box.key: offer.box for offer in (first, *ready, copy)}
    return Decision(among, first, tuple(every.values()), served, copy)


def choose(
    model: str, among: Sequence[Offer], asked: Collection[str], settled: Collection[str]
) -> Offer:
    """The soonest; but one that is asked already stays unless another is much better."""
    best = soonest(model, among)
    stays = next((offer for offer in among if offer.box.key in asked), None)
    if stays is None:
        return best
    moves = stays.box.key in settled and best.total < MUCH_BETTER * stays.total
    return best if moves else stays


def soonest(model: str, among: Sequence[Offer]) -> Offer:
    least = min([offer.total for offer in among])
    ties = [offer for offer in among if offer.total == least]
    return ties[0] if len(ties) == 1 else min(ties, key=lambda o: affinity(model, o.box))


def least_taken(model: str, boxes: Iterable[BoxView]) -> BoxView | None:
    """Of boxes that have it ready and a free slot, the one with the lowest share of taken ones."""
    free = [box for box in boxes if box.free_slots(model) > 0]
    if len(free) < 2:
        return free[0] if free else None
    shares = [(box.share_taken(model), box) for box in free]
    least = min(share for share, _ in shares)
    ties = (box for share, box in shares if share == least)
    return min(ties, key=lambda box: affinity(model, box))


def affinity(model: str, box: BoxView) -> bytes:
    """Rendezvous hash: routers that know the same choose the same, without talking."""
    return hashlib.blake2b(f"{model}\0{box.name}".encode(), digest_size=8).digest()
