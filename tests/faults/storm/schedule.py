"""Which faults a storm has, in which order and when: from its seed, and from nothing else.

Rule: no I/O, no clock. What a fault falls on is a number between 0 and 1: which of those that
there are at that moment, so that the same seed gives the same faults however fast a machine is.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")

BOXES = ("1", "2")
CLIENT_LINKS = ("clients-a", "clients-b")
BOX_LINKS = ("a-1", "a-2", "b-1", "b-2")
LINKS = (*CLIENT_LINKS, *BOX_LINKS)


class Kind(NamedTuple):
    name: str
    weight: int
    targets: Sequence[str]
    shortest: float = 0.0  # seconds, of those that last
    longest: float = 0.0


# Router `a` and box 1 live through it all: their memory is watched. What lasts is shorter or longer
# than the 1.5 s for which the storm's engines may be silent, than the 3 s for which a router waits
# for a box that ends, and than the 6 s after which it takes one that is silent for lost.
KINDS = (
    Kind("engine-kill", 13, BOXES),
    Kind("engine-term", 5, BOXES),
    Kind("engine-stop", 6, BOXES, 0.2, 4.0),
    Kind("child-kill", 4, BOXES),
    Kind("sidecar-kill", 11, ("2",)),
    Kind("sidecar-point", 8, ("2",)),
    Kind("sidecar-term", 2, ("2",)),
    Kind("sidecar-stop", 4, ("2",), 0.3, 5.0),
    Kind("sidecar-stop", 1, ("2",), 7.0, 11.0),
    Kind("router-kill", 7, ("b",)),
    Kind("router-term", 3, ("b",)),
    Kind("router-stop", 2, ("b",), 0.3, 3.0),
    Kind("leave", 9, ("clients",)),
    Kind("reset", 8, LINKS),
    Kind("part", 6, LINKS, 0.2, 5.0),
    Kind("part", 1, BOX_LINKS, 7.0, 11.0),
    Kind("part-inward", 2, LINKS, 0.2, 3.0),
    Kind("part-outward", 2, LINKS, 0.2, 3.0),
    Kind("refuse", 2, LINKS, 0.2, 2.0),
    Kind("down", 4, LINKS, 0.1, 2.0),
    Kind("half-close", 2, LINKS),
    Kind("slices", 3, LINKS, 0.5, 2.0),
    Kind("late", 3, LINKS, 0.5, 3.0),
)


class Fault(NamedTuple):
    after: float  # seconds since the one before
    kind: str
    target: str
    pick: float  # 0 to 1: which of those that there are
    seconds: float

    def __str__(self) -> str:
        lasts = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.kind} {self.target} ({self.pick:.2f}){lasts}"


def schedule(seed: int, count: int, seconds: float) -> list[Fault]:
    """`count` faults, spread over about so many seconds."""
    chance = random.Random(seed)
    return [_fault(chance, seconds / count) for _ in range(count)]


def _fault(chance: random.Random, gap: float) -> Fault:
    (kind,) = chance.choices(KINDS, [kind.weight for kind in KINDS])
    return Fault(
        after=chance.uniform(0.5, 1.5) * gap,
        kind=kind.name,
        target=chance.choice(kind.targets),
        pick=chance.random(),
        seconds=round(chance.uniform(kind.shortest, kind.longest), 3),
    )


def picked(pick: float, there: Sequence[T]) -> T:
    return there[int(pick * len(there))]
