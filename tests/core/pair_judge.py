"""What must hold of a `Pair` at every step and at its end, whatever happened to it.

Rule: each property is judged by what really happened, and only where a core keeps a ledger of its
own also by that.
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

from router.effects import Effect, Send
from router.queue import Ticket
from shared.demand import TTL
from shared.status import LEAVING, Phase
from sidecar.memory import add, fits, subtract
from tests.core.pair import Pair
from tests.core.pair_records import Launch, Request
from tests.core.pair_router import Router
from tests.core.pair_sidecar import Sidecar

EPSILON = 1e-6  # seconds
REST = TTL + 15.0  # seconds after the last end: all that is forgotten late is forgotten then
MAX_WAIT = 400.0  # seconds: whoever can be served at all is served long before


class Judge:
    """Looks on after every step."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        for sidecar in pair.sidecars.values():
            sidecar.settled = self.looks_at_a_box
        for router in pair.routers:
            self.watches(router)

    def watches(self, router: Router) -> None:
        router.settled = self.looks_at_a_router

    # At every step.

    def looks_at_a_box(self, sidecar: Sidecar) -> None:
        if not sidecar.is_surprised:
            the_ledger_adds_up(sidecar)
        no_claim_is_kept_that_nobody_wants(sidecar)
        each_model_has_one_engine(sidecar)
        everything_has_its_reason(sidecar)

    def looks_at_a_router(self, router: Router, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                nobody_of_that_tenant_comes_before(effect, router)

    # When nothing more happens.

    def comes_to_the_end(self) -> None:
        pair = self._pair
        pair.run_until_all_have_ended(within=MAX_WAIT + REST)
        begun, now = len(pair.launches), pair.clock.now
        still_wanted = now + TTL + max(program.load for program in pair.programs.values())
        pair.run(now + REST)
        assert pair.is_at_rest(), "I5: it never comes to rest"
        late = [one for one in pair.launches[begun:] if one.started > still_wanted]
        unwanted = [one for one in late if not pair.programs[one.model].standby]
        assert not unwanted, f"I5: loads that nobody waits for: {unwanted}"
        for request in pair.requests:
            assert len(request.ends) == 1, f"I8: ended {request.ends}"
            assert request.breaks <= 2, "I8: what a lost box leaves is sent again once"
            nobody_waits_in_vain(request, pair)
        for launch in pair.launches:
            no_engine_dies_of_memory_that_was_taken(launch, pair)
            nobody_is_cut_off_by_a_drain(launch)
        no_model_starts_again_and_again(pair)
        all_that_was_sent_has_come(pair)


# I1


def the_ledger_adds_up(sidecar: Sidecar) -> None:
    """I1: what is booked and claimed, without what leaves, is never more than there is."""
    box = sidecar.box
    engines = box.engines.values()
    booked = add(e.booking for e in engines)
    leaving = add(e.booking for e in engines if e.machine.phase in LEAVING)
    claimed = add(claim.booking for claim in box.inventory.claims)
    assert fits(booked, box.inventory.capacity), f"I1: booked {booked} of {box.inventory.capacity}"
    to_come = subtract(add([booked, claimed]), leaving)
    assert fits(to_come, box.inventory.capacity), (
        f"I1: {to_come} to come in {box.inventory.capacity}"
    )


def no_claim_is_kept_that_nobody_wants(sidecar: Sidecar) -> None:
    """I1: no claim outlives its demand, but for what belongs on the box anyway."""
    box = sidecar.box
    belongs = {*sidecar.rules.preload, *(id for id, e in box.engines.items() if e.model.standby)}
    unwanted = [
        claim
        for claim in box.inventory.claims
        if claim.model not in {*box.inventory.wants(), *belongs}
    ]
    assert not unwanted, f"I1: {unwanted}"


def each_model_has_one_engine(sidecar: Sidecar) -> None:
    """I1: one engine per box and model, by its processes."""
    newest = sidecar.launches[-len(sidecar.box.engines) * 2 :]
    alive = Counter(launch.model for launch in newest if launch.ended == math.inf)
    assert not alive or max(alive.values()) == 1, f"I1: {alive} on {sidecar.name}"


def no_engine_dies_of_memory_that_was_taken(launch: Launch, pair: Pair) -> None:
    """I1, by what is really there: it is never too little, but for what it takes itself beyond its
    need, and for what a stranger, or one of ours beyond its own, took after the box had last seen
    its memory."""
    hardware = pair.sidecars[launch.box].hardware
    if not launch.out_of_memory or (hardware.met_strangers and not hardware.tells):
        return
    strangers = any(hardware.grew_at[pool] >= launch.looked_at for pool in launch.booking)
    surprised = launch.surprises or any(
        other.surprises and other.took_at >= launch.looked_at
        for other in alive_at_start_of(launch, pair)
    )
    assert strangers or surprised, f"I1: {launch.model} started at {launch.started} without room"


# I4


def nobody_is_cut_off_by_a_drain(launch: Launch) -> None:
    """I4: nobody is admitted to an engine that was told to go, and it is not stopped with
    requests in flight before its drain limit."""
    assert not launch.served_after_told, f"I4: {launch}"
    if launch.signalled is not None and launch.in_flight_when_signalled:
        assert launch.told is not None
        assert launch.signalled >= launch.told + launch.program.drain - EPSILON, f"I4: {launch}"


# I5


def nobody_waits_in_vain(request: Request, pair: Pair) -> None:
    """I5: nobody who could be served waits until the line gives up. Only what is pinned may keep
    others from the memory for ever."""
    if request.ends == ["queue_timeout"]:
        assert any(program.pinned for program in pair.programs.values()), f"I5: {request.ticket}"


# I6


def no_model_starts_again_and_again(pair: Pair) -> None:
    """I6: between two starts of a model on one box is half a switch cost at least, unless it
    failed, or had to go before it was ready because nobody waited for it any more."""
    for sidecar in pair.sidecars.values():
        for model, program in pair.programs.items():
            launches = [one for one in sidecar.launches if one.model == model]
            for before, after in pairwise(launches):
                if before.ready is not None and before.boot == after.boot:
                    apart = after.started - before.started
                    assert apart >= (program.load + program.stop) / 2, f"I6: {model} {apart}"


# I8


def nobody_of_that_tenant_comes_before(sent: Send, router: Router) -> None:
    """I8: of one tenant's requests for a model, they are sent by priority, then by arrival: a
    refusal costs nobody its place."""
    for other in router.line.waiting().get(sent.ticket.model, ()):
        if other.tenant == sent.ticket.tenant:
            assert turn(other) > turn(sent.ticket), f"I8: {sent} before {other}"


def all_that_was_sent_has_come(pair: Pair) -> None:
    """I8: at rest, `sent` is what was admitted and what was refused, and what was lost on the
    wire with its client gone."""
    for router in pair.routers:
        for box, view in router.line.boxes.items() if router.alive else ():
            for model, sent in view.sent.items():
                came = pair.sidecars[box].came[router.id, model] + router.never_came[box, model]
                assert came == sent, f"I8: of {model} {came} of {sent} from {router.id} at {box}"


# I12


def everything_has_its_reason(sidecar: Sidecar) -> None:
    """I12: every start, drain, stop, claim and wait says why. That no deadline is in the past
    twice in a row, the `Alarm` sees to."""
    for engine in sidecar.box.engines.values():
        assert engine.machine.phase in (Phase.IDLE, Phase.READY) or engine.because, "I12"
    for entry in (*sidecar.box.inventory.claims, *sidecar.box.waits):
        assert entry.because, f"I12: {entry}"


# Readers of what happened.


def turn(ticket: Ticket) -> tuple[int, float, str]:
    """By which the requests of one tenant for one model are served."""
    return (-ticket.priority, ticket.arrived, ticket.id)


def alive_at_start_of(launch: Launch, pair: Pair) -> list[Launch]:
    """All that ran on its box then, itself among them."""
    return [
        other
        for other in pair.launches
        if other.box == launch.box and other.started <= launch.started < other.ended
    ]


def waited_for(launch: Launch, pair: Pair) -> list[Request]:
    """Who waited for it when it was told to go, so long that its box must have known."""
    assert launch.told is not None
    way = 6 * pair.net.longest_way  # demand after news, both behind another that is on its way
    return [one for one in launch.waiting_when_told if one.ticket.arrived < launch.told - way]
