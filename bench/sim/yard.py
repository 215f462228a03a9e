"""Our own cores on the virtual clock of tests/core, for the same workloads."""

from __future__ import annotations

from collections.abc import Mapping

from bench.workload import Agent, Workload
from tests.core.pair import FIRST_HEARING, Pair
from tests.core.pair_sidecar import Program


def play(pair: Pair, workload: Workload) -> None:
    """Put everything onto the agenda; requests come to all routers in turn."""
    routers = len(pair.routers)
    for n, arrival in enumerate(workload.arrivals):
        at = FIRST_HEARING + arrival.at
        pair.ask(arrival.model, at=at, answer=arrival.answer, router=n % routers)
    for n, agent in enumerate(workload.agents):
        follow(pair, agent, FIRST_HEARING + workload.seconds, n % routers)


def follow(pair: Pair, agent: Agent, until: float, router: int) -> None:
    asks = agent.asks()

    def ask() -> None:
        if pair.clock.now < until:
            model, answer = next(asks)
            pair.ask(model, router=router, answer=answer, then=again)

    def again() -> None:
        pair.clock.after(agent.pause, ask)

    pair.clock.at(FIRST_HEARING + agent.start, ask)


def yard(
    programs: Mapping[str, Program], workload: Workload, seed: int, boxes: int = 1, room: int = 1
) -> Pair:
    """A pair with the workload on its agenda; the beginning of time is `FIRST_HEARING`."""
    pair = Pair(programs, seed, boxes=boxes, room=room)
    play(pair, workload)
    return pair


def waits(pair: Pair) -> list[tuple[str, float]]:
    """By model; who waits still, has waited until now."""
    now = pair.clock.now
    return [(r.ticket.model, min(r.wait, now - r.ticket.arrived)) for r in pair.requests]
