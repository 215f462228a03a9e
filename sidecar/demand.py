"""What all routers together want from this box.

Rule 1: a router's newest message replaces the one before; after its `ttl_s` it leaves no trace.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from shared.demand import HIGHEST_PRIORITY, Demand, ModelDemand

# A request that a router has sent arrives within this time, or never (seconds). The demand that
# no longer holds it can overtake it; without this pause a fresh engine looks idle and is stopped
# before it has served anyone.
ON_THE_WIRE = 0.25

MOST_ROUTERS = 100  # at a time; a message of one more is ignored

WEIGHT_PER_PRIORITY = 4.0  # one level of priority counts as much as four times the waiting
# The priority of what an operator asks for: above any that a config can give.
BY_HAND = 2 * HIGHEST_PRIORITY


@dataclass(frozen=True, slots=True)
class Want:
    """All who wait for one model. `oldest` is when the first of them arrived."""

    waiting: Mapping[int, int]  # how many, by priority
    oldest: float
    routers: int = 1

    @property
    def count(self) -> int:
        return sum(self.waiting.values())

    @property
    def by_hand(self) -> bool:
        return BY_HAND in self.waiting

    @property
    def weight(self) -> float:
        return WEIGHT_PER_PRIORITY ** max(self.waiting)

    def waited(self, now: float) -> float:
        """Weighted sum of the ages. Ages are taken to be even between the oldest and now: as good
        as the exact sum within 2 %, and the message needs no further field for it."""
        heads = sum(n * WEIGHT_PER_PRIORITY**priority for priority, n in self.waiting.items())
        age = now - self.oldest
        return heads * (age if self.count == 1 else age / 2)


@dataclass(slots=True)
class _Router:
    seq: int
    heard: float
    ttl: float
    models: Mapping[str, ModelDemand]
    arrived: Counter[str] = field(default_factory=Counter)  # admitted or refused here, by model
    # Of those models, who waits: how many by priority, and when the oldest arrived.
    waits: dict[str, tuple[Mapping[int, int], float]] = field(default_factory=dict)
    announced: dict[str, float] = field(default_factory=dict)  # when `sent` last rose
    oldest: dict[str, float] = field(default_factory=dict)  # as it was last told, by model
    returned: set[str] = field(default_factory=set)  # refused here since the last message
    refused_at: dict[str, float] = field(default_factory=dict)  # the last time, by model
    marked_at: float = -math.inf  # the newest of the times when something was due

    def note_waits(self) -> None:
        self.waits = {
            model: (wanted.waiting, self.heard - wanted.oldest_s)
            for model, wanted in self.models.items()
            if any(wanted.waiting.values())
        }
        self.oldest |= {model: oldest for model, (_, oldest) in self.waits.items()}

    def waiting(self) -> Iterator[tuple[str, Mapping[int, int], float]]:
        """By model: how many by priority, and when the oldest arrived."""
        for model, (waiting, oldest) in self.waits.items():
            yield model, waiting, oldest
        for model in self.models if self.returned else ():
            if model in self.returned and model not in self.waits:
                yield model, {0: 1}, self.oldest.get(model, self.heard)

    def due(self, model: str, now: float) -> int:
        """Requests that were sent and are not here yet, and one that was refused: the message
        that followed may have left before its router had heard of that."""
        untold = self.refused_at.get(model, -math.inf) + ON_THE_WIRE
        back = int(now < untold and model not in self.returned)
        if now >= self.announced.get(model, -math.inf) + ON_THE_WIRE:
            return back
        return max(0, self.models[model].sent - self.arrived[model]) + back

    def dues(self, now: float) -> Iterator[tuple[str, int, float]]:
        """By model: how many are due, and when that ends at the latest."""
        if now >= self.marked_at + ON_THE_WIRE:
            return
        for model in self.models.keys() & {*self.announced, *self.refused_at}:
            if count := self.due(model, now):
                marks = (self.announced.get(model), self.refused_at.get(model))
                ends = [at + ON_THE_WIRE for at in marks if at is not None]
                yield model, count, min(end for end in ends if end > now)


class Demands:
    def __init__(self, models: frozenset[str]) -> None:
        self._models = models
        self._routers: dict[str, _Router] = {}
        self.by_hand: dict[str, float] = {}  # models that an operator waits for, and since when

    def heard(self, router: str, demand: Demand, now: float) -> bool:
        """Take a message; False if a newer one is here already."""
        models = {m: d for m, d in demand.models.items() if m in self._models}
        known = self._routers.get(router)
        if known is None:
            return self._heard_first(router, demand, models, now)
        if demand.seq <= known.seq:
            return False
        for model, wanted in models.items():
            before = known.models.get(model)
            if wanted.sent > (before.sent if before else 0):
                known.announced[model] = known.marked_at = now
        known.seq, known.heard, known.ttl, known.models = demand.seq, now, demand.ttl_s, models
        known.returned.clear()
        known.note_waits()
        for model in known.waits:
            known.refused_at.pop(model, None)
        return True

    def _heard_first(
        self, router: str, demand: Demand, models: Mapping[str, ModelDemand], now: float
    ) -> bool:
        """What it has sent before is not waited for."""
        if len(self._routers) >= MOST_ROUTERS:
            return False
        known = _Router(demand.seq, now, demand.ttl_s, models)
        known.arrived.update({m: d.sent for m, d in models.items()})
        known.note_waits()
        self._routers[router] = known
        return True

    def admitted(self, router: str, model: str) -> None:
        """A request of that router is on the wire no more."""
        if router in self._routers:
            self._routers[router].arrived[model] += 1

    def refused(self, router: str, model: str, now: float) -> None:
        """The same, but it waits again, from this moment on and not only from the next message:
        meanwhile the engine that it was meant for must not look as if nobody wanted it."""
        self.admitted(router, model)
        if router in self._routers:
            known = self._routers[router]
            known.returned.add(model)
            known.refused_at[model] = known.marked_at = now

    def forget_silent(self, now: float) -> bool:
        """Drop routers that have not been heard within their time. True if there were any."""
        silent = [r for r, known in self._routers.items() if now >= known.heard + known.ttl]
        for router in silent:
            del self._routers[router]
        return bool(silent)

    def waiting(self) -> Iterator[tuple[str, Mapping[int, int], float]]:
        """Router by router: the model, how many by priority, and when the oldest arrived."""
        for known in self._routers.values():
            yield from known.waiting()
        for model, since in self.by_hand.items():
            yield model, {BY_HAND: 1}, since

    def wants(self, answered: Callable[[str], float]) -> dict[str, Want]:
        """Who waits for what. A load that failed at `answered(model)` has answered all who had
        come before it: their router just has not said so yet."""
        wants: dict[str, Want] = {}
        for model, waiting, oldest in self.waiting():
            by_hand = BY_HAND in waiting
            if oldest <= answered(model) and not by_hand:
                continue
            so_far = wants.get(model, Want({}, oldest, routers=0))
            together = Counter(so_far.waiting) + Counter(waiting)
            routers = so_far.routers + (not by_hand)
            wants[model] = Want(together, min(oldest, so_far.oldest), routers)
        return wants

    def wanted(self) -> Iterator[str]:
        """The models for which somebody waits, also for what cannot be; some of them twice."""
        for known in self._routers.values():
            yield from known.waits
            yield from known.returned
        yield from self.by_hand

    def due(self, now: float) -> dict[str, int]:
        due: Counter[str] = Counter()
        for known in self._routers.values():
            for model, count, _ in known.dues(now):
                due[model] += count
        return dict(due)

    def deadline(self, now: float) -> float:
        """When silence, or the end of a wire's patience, changes the answer."""
        ends = [known.heard + known.ttl for known in self._routers.values()]
        for known in self._routers.values():
            ends += [end for _, _, end in known.dues(now)]
        return min(ends, default=math.inf)
