"""When a resident may be told to go, so that nobody starves and nothing thrashes.

Rule 1: how long a model stays while others wait is decided here and nowhere else.
Rule 2: this file does no I/O, reads no clock and never awaits.

A busy resident is served until it runs dry, or until the end of its *visit*. The visit's clock runs
only while this visit makes somebody wait, so each load serves those it was made for. An idle one
goes at once, but for the moment in which its next request mostly comes.
"""

from __future__ import annotations

from collections.abc import Collection

from shared.status import Phase
from sidecar.demand import Want
from sidecar.plan import Facts, Resident

# A visit lasts this many switch costs once somebody else waits: 2 costs at most 2 % of the mean
# wait in open traffic, and a busy model never holds a box for ever.
VISIT = 2.0
VISIT_OF_A_FULL_ENGINE = 4.0  # while its own slots are taken and it has a line of its own
BATCH = 8.0  # who waited when it became ready is served first, for this many switch costs at most
LEAST_VISIT = 1.0  # even the patience of others leaves a visit one switch cost

# An agent that asks again at once finds its model there: two agents with a model each would change
# models at every request (seen in simulation: 4.4 s of mean wait instead of 1.2 s).
LONGEST_GRACE = 1.0  # seconds
GRACE_SHARE = 0.25  # of the switch that it puts off


def grace(load: float, stop: float) -> float:
    """Seconds in which an idle model's next request must mostly come, for it to be kept."""
    return min(LONGEST_GRACE, GRACE_SHARE * (load + stop))


def is_busy(facts: Facts, resident: Resident) -> bool:
    name = resident.model
    return resident.in_flight > 0 or name in facts.wants or name in facts.due


def switch_cost(facts: Facts, load: float, victims: Collection[Resident]) -> float:
    """Seconds: the load, the longest stop, and the longest drain."""
    stop = max(v.stop_s for v in victims)
    drain = max((v.service_s for v in victims if is_busy(facts, v)), default=0.0)
    return load + stop + drain


def may_leave_at(facts: Facts, want: Want, load: float, victims: Collection[Resident]) -> float:
    """When these may all be told to go for a model that loads in `load` seconds."""
    cost = switch_cost(facts, load, victims)
    ends = [_end(facts, want, load, cost, victim) for victim in victims]
    return max(_end_of_busy(facts, want, cost, victims), *ends, facts.now)


def _end_of_busy(facts: Facts, want: Want, cost: float, victims: Collection[Resident]) -> float:
    """Together: each of them is disturbed for the same switch."""
    busy = [v for v in victims if is_busy(facts, v)]
    if not busy:
        return facts.now
    full = any(is_full(facts, v) for v in busy)
    end = _visit_end(facts, want, cost, max(v.ready_at for v in busy), full)
    return max(end, *(v.ready_at + BATCH * cost if _batch_waits(facts, v) else end for v in busy))


def _end(facts: Facts, want: Want, load: float, cost: float, victim: Resident) -> float:
    least = _least_stay(facts, want, victim)
    if is_busy(facts, victim) or not victim.returns:
        return least
    kept = victim.last_used + grace(load, victim.stop_s)
    return max(least, min(kept, _visit_end(facts, want, cost, victim.ready_at, full=False)))


def _least_stay(facts: Facts, want: Want, victim: Resident) -> float:
    if want.by_hand or victim.phase is not Phase.READY:
        return facts.now
    return victim.ready_at + facts.rules.min_resident


def _visit_end(facts: Facts, want: Want, cost: float, began: float, full: bool) -> float:
    length = VISIT_OF_A_FULL_ENGINE if full else VISIT
    end = max(began, want.oldest) + length * cost / want.weight
    impatience = max(want.oldest + facts.rules.patience, began + LEAST_VISIT * cost)
    return min(end, impatience)


def is_full(facts: Facts, resident: Resident) -> bool:
    """It has a line of its own, however the moment between two of its requests looks."""
    want = facts.wants.get(resident.model)
    due = facts.due.get(resident.model, 0)
    return want is not None and resident.in_flight + due + want.count > resident.slots


def _batch_waits(facts: Facts, resident: Resident) -> bool:
    want = facts.wants.get(resident.model)
    return want is not None and want.oldest < resident.ready_at
