"""Fair share: what tenants get of one model's line, whatever they do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from router.queue import Queue, Ticket

PLAYS = settings(max_examples=60, deadline=None)
TENANTS = "abc"
DEEDS = ("join", "serve", "leave", "refuse")
ARRIVALS = st.lists(st.sampled_from("ab"), min_size=2, max_size=40)


def histories(*deeds: str) -> st.SearchStrategy[list[tuple[str, str, int]]]:
    deed = st.tuples(st.sampled_from(deeds), st.sampled_from(TENANTS), st.integers(0, 9))
    return st.lists(deed, max_size=60)


HISTORIES = histories(*DEEDS)
UNREFUSED = histories("join", "serve", "leave")  # who comes back has waited for a turn before


@dataclass
class Play:
    """One queue, those who are served from it, and how often each tenant was served."""

    queue: Queue = field(default_factory=Queue)
    served: list[Ticket] = field(default_factory=list)
    got: Counter[str] = field(default_factory=Counter)
    ids: count[int] = field(default_factory=count)

    def join(self, tenant: str) -> Ticket:
        n = next(self.ids)
        one = Ticket(f"{n:03}", "x", arrived=float(n), tenant=tenant)
        self.queue.add(one)
        return one

    def serve(self) -> Ticket:
        one = self.queue.serve()
        self.served.append(one)
        self.got[one.tenant] += 1
        return one

    def refuse(self, one: Ticket) -> None:
        self.served.remove(one)
        self.got[one.tenant] -= 1
        self.queue.back(one)

    def does(self, deed: str, tenant: str, which: int) -> None:
        if deed == "join":
            self.join(tenant)
        elif deed == "refuse" and self.served:
            self.refuse(self.served[which % len(self.served)])
        elif deed == "serve" and self.queue:
            self.serve()
        elif deed == "leave" and (own := self.of(tenant)):
            self.queue.remove(own[which % len(own)])

    def of(self, tenant: str) -> list[Ticket]:
        return [one for one in self.queue if one.tenant == tenant]

    def order(self) -> list[str]:
        return [one.id for one in self.queue]


def after(history: list[tuple[str, str, int]]) -> Play:
    play = Play()
    for deed, tenant, which in history:
        play.does(deed, tenant, which)
    return play


@PLAYS
@given(ARRIVALS)
def test_two_tenants_that_both_wait_are_served_in_turn(arrivals: list[str]) -> None:
    play = Play()
    for tenant in arrivals:
        play.join(tenant)
    while play.of("a") and play.of("b"):
        play.serve()
        assert abs(play.got["a"] - play.got["b"]) <= 1


@PLAYS
@given(UNREFUSED, UNREFUSED)
def test_while_two_tenants_wait_neither_gets_more_than_two_ahead_whatever_went_before(
    history: list[tuple[str, str, int]], meanwhile: list[tuple[str, str, int]]
) -> None:
    play = after(history)
    play.join("a")
    play.join("b")
    play.got.clear()
    for deed, tenant, which in meanwhile:
        play.does(deed, tenant, which)
        if not play.of("a") or not play.of("b"):
            return
        assert abs(play.got["a"] - play.got["b"]) <= 2


@PLAYS
@given(UNREFUSED)
def test_a_tenant_that_comes_late_does_not_stand_behind_the_whole_line_of_another(
    history: list[tuple[str, str, int]],
) -> None:
    play = after([(deed, tenant, n) for deed, tenant, n in history if tenant != "c"])
    late = play.join("c")
    before = Counter(one.tenant for one in list(play.queue)[: play.queue.index(late)])
    assert all(n <= 2 for n in before.values())


@PLAYS
@given(HISTORIES)
def test_nobody_starves_while_others_keep_coming(history: list[tuple[str, str, int]]) -> None:
    play = after(history)
    last = play.join("a")
    own = len(play.of("a"))
    play.got.clear()
    while last in play.queue:
        assert sum(play.got.values()) <= (own + 2) * len(TENANTS)
        play.join("b")
        play.join("c")
        play.serve()


@PLAYS
@given(HISTORIES, st.integers(0, 9), st.randoms())
def test_who_is_refused_is_at_the_old_place_whatever_comes_meanwhile(
    history: list[tuple[str, str, int]], n: int, rng: Random
) -> None:
    play = after(history)
    before = play.order()
    taken = [play.serve() for _ in range(min(n, len(before)))]
    newcomers = {play.join(tenant).id for tenant in TENANTS}
    rng.shuffle(taken)
    for one in taken:
        play.refuse(one)
    assert [id for id in play.order() if id not in newcomers] == before
    assert not newcomers & set(play.order()[: len(taken)])


@PLAYS
@given(HISTORIES)
def test_the_index_the_order_and_who_is_served_are_of_one_mind(
    history: list[tuple[str, str, int]],
) -> None:
    play = after(history)
    queue = play.queue
    assert [queue.index(one) for one in queue] == list(range(len(queue)))
    assert [queue.first_of(t) for t in TENANTS] == [next(iter(play.of(t)), None) for t in TENANTS]
    assert queue.serves == bool(play.served)
    order = play.order()
    assert [play.serve().id for _ in order] == order


@PLAYS
@given(st.lists(st.tuples(st.sampled_from(DEEDS), st.just("a"), st.integers(0, 9)), max_size=60))
def test_one_tenant_alone_is_served_in_the_order_of_its_coming(
    history: list[tuple[str, str, int]],
) -> None:
    play = after(history)
    assert play.order() == sorted(play.order())


def test_who_gives_up_costs_those_of_its_tenant_behind_it_no_turn() -> None:
    play = Play()
    given_up = [play.join("a") for _ in range(50)]
    stays = play.join("a")
    for _ in range(5):
        play.join("b")
    for one in given_up:
        play.queue.remove(one)
    assert play.queue.index(stays) == 0


def test_turns_that_were_not_used_are_not_saved_up() -> None:
    play = Play()
    for _ in range(10):
        play.join("a")
        play.serve()
    for tenant in "aabb":
        play.join(tenant)
    assert [play.serve().tenant for _ in range(4)] == ["a", "b", "a", "b"]


def test_the_turns_of_one_priority_are_not_those_of_another() -> None:
    queue = Queue()
    for n, (tenant, priority) in enumerate([("a", 1), ("a", 1), ("a", 0), ("a", 0), ("b", 0)]):
        queue.add(Ticket(str(n), "x", arrived=float(n), priority=priority, tenant=tenant))
    served = []
    while queue:
        served.append(queue.serve().id)
    assert served == ["0", "1", "2", "4", "3"]
