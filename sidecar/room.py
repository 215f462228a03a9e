"""What room there is: now, once those who leave are gone, and once those with a claim have come.

Rule 1: nothing is chosen here; `planner.py` notes what it decides, and reads what is left.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.status import LEAVING, Phase
from sidecar.memory import Bytes, add, fits, subtract
from sidecar.plan import Claim, Facts, Resident, Start


@dataclass(slots=True)
class Room:
    """The room of one run of the planner: `facts` as they are, and what was decided so far."""

    facts: Facts
    starts: list[Start] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    told_to_go: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)

    def free(self) -> dict[str, int]:
        """What is there now."""
        booked = add(r.booking for r in self.facts.residents.values())
        started = add(s.booking for s in self.starts)
        return subtract(subtract(self.facts.capacity, booked), started)

    def arriving(self) -> dict[str, int]:
        """What is there once those who leave are gone."""
        leaving = add(r.booking for r in self.facts.residents.values() if self.leaves(r))
        return add([self.free(), leaving])

    def spare(self) -> dict[str, int]:
        """What is there once those who leave are gone and those with a claim have come."""
        return subtract(self.arriving(), add(c.booking for c in self.claims))

    def left_by_pins(self) -> dict[str, int]:
        """What is there if all leave that may ever be told to, and can."""
        stay = (r for r in self.facts.residents.values() if r.pinned or r.unkillable)
        return subtract(self.facts.capacity, add(r.booking for r in stay))

    def takes_now(self, booking: Bytes) -> bool:
        """Whether an engine may start there at once."""
        return fits(booking, self.free()) and not self._is_shared_with_a_start(booking)

    def leaves(self, resident: Resident) -> bool:
        if resident.model in self.kept or resident.unkillable:
            return False
        return resident.model in self.told_to_go or resident.phase in LEAVING

    def _is_shared_with_a_start(self, booking: Bytes) -> bool:
        """Whether the difference that the start makes on its GPUs would be another's too."""
        one_by_one = booking.keys() & set(self.facts.one_start_at_a_time)
        if not one_by_one:
            return False
        starting = [r.booking for r in self.facts.residents.values() if r.phase is Phase.STARTING]
        taken = {pool for b in (*starting, *(s.booking for s in self.starts)) for pool in b}
        return not taken.isdisjoint(one_by_one)
