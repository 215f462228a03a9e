"""The promises I1 to I12 over whatever happens to a fleet: hypothesis looks for a story in which
one is broken, and tells the shortest that it finds.

Rule: the promises are in `pair_judge.py`; here is only what may happen.
"""

from __future__ import annotations

import math
from dataclasses import replace

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.core.pair import FAR, LOCAL, Pair
from tests.core.pair_judge import MAX_WAIT, Judge
from tests.core.pair_records import Program
from tests.core.pair_sidecar import Sidecar
from tests.core.storms import stories

MODELS = "ABCDE"
N = st.integers(0, 59)  # which one: of as many as there are
SECONDS = st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0, 3.0, 8.0])
LONG = st.sampled_from([0.5, 2.0, 4.0, 7.0, 20.0])  # seconds that something is away
GIB = 2**30
AWAY = 30.0  # seconds after which nothing that began goes on by itself


def loadable_standby(one: Program) -> Program:
    """A standby that cannot be loaded is tried for ever, by its back-off."""
    return replace(one, fails=0.0, takes=None) if one.standby else one


PROGRAMS = st.builds(
    Program,
    load=st.sampled_from([1.0, 0.3, 2.0, 5.0]),
    stop=st.sampled_from([0.01, 0.3, 1.0]),
    answer=st.sampled_from([0.3, 0.05, 3.0]),
    slots=st.sampled_from([1, 2, 4, 100]),
    need=st.integers(1, 8).map(lambda size: size * GIB),
    takes=st.sampled_from([None, None, None, GIB, 5 * GIB]),
    on_host=st.sampled_from([False, False, False, True]),
    pinned=st.sampled_from([False, False, False, False, True]),
    standby=st.sampled_from([False, False, False, False, True]),
    keep_alive=st.sampled_from([math.inf, math.inf, 0.0, 5.0]),
    fails=st.sampled_from([0.0, 0.0, 0.0, 0.0, 0.3, 1.0]),
    crashes=st.sampled_from([0.0, 0.0, 0.05]),
    drain=st.sampled_from([600.0, 600.0, 1.0]),
).map(loadable_standby)


class Fleet(RuleBasedStateMachine):
    pair: Pair
    judge: Judge

    @initialize(
        programs=st.lists(PROGRAMS, min_size=2, max_size=5),
        boxes=st.integers(1, 3),
        routers=st.integers(1, 3),
        gpus=st.sampled_from([(8,), (8, 8), (8, 12), ()]),
        tells=st.sampled_from([True, True, False]),
        lag=st.sampled_from([0.0, 0.0, 0.3, 2.0]),
        delays=st.sampled_from([LOCAL, FAR]),
        loss=st.sampled_from([0.0, 0.0, 0.2]),
        echoes=st.sampled_from([0.0, 0.0, 0.2]),
        patience=st.sampled_from([math.inf, 20.0]),
        min_resident=st.sampled_from([0.0, 0.0, 4.0]),
        preload=st.sampled_from([(), (), ("A",), ("B", "A")]),
        seed=st.integers(0, 99),
    )
    def a_fleet_starts(
        self,
        programs: list[Program],
        boxes: int,
        routers: int,
        gpus: tuple[int, ...],
        tells: bool,
        lag: float,
        delays: tuple[float, float],
        loss: float,
        echoes: float,
        patience: float,
        min_resident: float,
        preload: tuple[str, ...],
        seed: int,
    ) -> None:
        self.pair = Pair(
            dict(zip(MODELS, programs, strict=False)),
            seed,
            boxes=boxes,
            routers=routers,
            room=8 * GIB,
            gpus=[size * GIB for size in gpus],
            tells=tells,
            lag=lag,
            delays=delays,
            loss=loss,
            echoes=echoes,
            patience=patience,
            min_resident=min_resident,
            preload=preload,
            max_wait=MAX_WAIT,
        )
        self.gpus = len(gpus)
        self.judge = Judge(self.pair)

    # Clients.

    @rule(
        which=N,
        router=N,
        count=st.sampled_from([1, 1, 2, 4]),
        priority=st.sampled_from([0, 0, 0, 1, -1]),
        tenant=st.sampled_from(["", "", "other"]),
        stays=st.sampled_from([None, None, None, 0.0, 0.5, 3.0, 8.0]),
    )
    def clients_ask(
        self,
        which: int,
        router: int,
        count: int,
        priority: int,
        tenant: str,
        stays: float | None,
    ) -> None:
        for _ in range(count):
            self.pair.ask(
                self.model(which),
                router=router % len(self.pair.routers),
                priority=priority,
                tenant=tenant,
                stays=stays,
            )

    @rule(which=N, router=N, seconds=st.sampled_from([2.0, 10.0]))
    def a_client_keeps_asking(self, which: int, router: int, seconds: float) -> None:
        router %= len(self.pair.routers)
        if self.pair.routers[router].alive and not self.fails(which):
            self.pair.keep_asking(self.model(which), self.pair.clock.now + seconds, router)

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.pair.run(self.pair.clock.now + seconds)

    # Operators.

    @rule(which=N, box=N)
    def an_operator_loads(self, which: int, box: int) -> None:
        self.box(box).load(self.model(which))

    @rule(which=N, box=N)
    def an_operator_unloads(self, which: int, box: int) -> None:
        self.box(box).unload(self.model(which))

    @rule(which=N, box=N)
    def an_operator_switches(self, which: int, box: int) -> None:
        self.box(box).switch(self.model(which))

    # What goes wrong.

    @precondition(lambda self: self.gpus)
    @rule(box=N, gpu=N, size=st.integers(1, 8))
    def a_stranger_takes_memory(self, box: int, gpu: int, size: int) -> None:
        pool = f"gpu{gpu % self.gpus}"
        self.box(box).hardware.strangers_take(pool, size * GIB, self.pair.clock.now)

    @precondition(lambda self: self.gpus)
    @rule()
    def the_strangers_give_it_back(self) -> None:
        for sidecar in self.pair.sidecars.values():
            for pool in sidecar.hardware.total:
                sidecar.hardware.strangers_give_back(pool)

    @rule(box=N, down=LONG)
    def a_box_restarts(self, box: int, down: float) -> None:
        self.box(box).restart(down)

    @rule(box=N, down=LONG)
    def a_box_vanishes(self, box: int, down: float) -> None:
        self.pair.vanish(self.box(box).name, down)

    @rule(router=N, box=N, seconds=LONG)
    def a_router_is_cut_off_from_a_box(self, router: int, box: int, seconds: float) -> None:
        router %= len(self.pair.routers)
        self.pair.routers[router].cut_off(self.box(box).name, seconds)

    @precondition(lambda self: sum(router.alive for router in self.pair.routers) > 1)
    @rule(router=N)
    def a_router_dies(self, router: int) -> None:
        self.pair.routers[router % len(self.pair.routers)].dies()

    @precondition(lambda self: len(self.pair.routers) < 5)
    @rule()
    def a_router_starts(self) -> None:
        self.judge.watches(self.pair.router_starts())

    # In the end.

    def teardown(self) -> None:
        if hasattr(self, "pair"):
            self.pair.net.loss = self.pair.net.echoes = 0.0
            self.the_strangers_give_it_back()
            self.pair.run(self.pair.clock.now + AWAY)
            self.judge.comes_to_the_end()

    # Which one.

    def model(self, n: int) -> str:
        return [*self.pair.programs][n % len(self.pair.programs)]

    def fails(self, n: int) -> bool:
        return self.pair.programs[self.model(n)].fails > 0

    def box(self, n: int) -> Sidecar:
        return self.pair.sidecars[f"box{n % len(self.pair.sidecars)}"]


TestWhateverHappensToAFleet = Fleet.TestCase
TestWhateverHappensToAFleet.settings = stories(20)
