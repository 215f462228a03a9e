from __future__ import annotations

import random

from router.queue import Queue, Ticket
from tests.core.said import ticket


def queue_of(*tickets: Ticket) -> Queue:
    queue = Queue()
    for one in tickets:
        queue.add(one)
    return queue


def by_priority_and_arrival(one: Ticket) -> tuple[int, float, str]:
    return (-one.priority, one.arrived, one.id)


def ids(queue: Queue) -> list[str]:
    return [one.id for one in queue]


def test_higher_priority_comes_first_and_then_who_came_first() -> None:
    queue = queue_of(
        ticket("late", arrived=2),
        ticket("early", arrived=1),
        ticket("urgent", arrived=3, priority=1),
        ticket("idle", arrived=0, priority=-1),
    )
    assert ids(queue) == ["urgent", "early", "late", "idle"]
    assert len(queue) == 4
    assert queue.serve().id == "urgent"


def test_a_request_that_comes_back_is_at_its_old_place() -> None:
    first, second, third = (ticket(id, arrived=n) for n, id in enumerate("abc"))
    queue = queue_of(first, second, third)
    assert [queue.serve(), queue.serve()] == [first, second]
    assert (ids(queue), queue.serves) == (["c"], True)
    assert first not in queue
    queue.back(second)
    queue.back(first)
    assert queue.serves is False
    assert [one in queue for one in (first, second, third)] == [True, True, True]
    assert queue.waiting() == {0: 3}
    assert ids(queue) == ["a", "b", "c"]


def test_requests_of_one_instant_have_one_order_whoever_is_added_first() -> None:
    a, b = ticket("a", arrived=1), ticket("b", arrived=1)
    assert ids(queue_of(a, b)) == ids(queue_of(b, a)) == ["a", "b"]


def test_the_index_is_the_number_of_those_ahead() -> None:
    tickets = [ticket(str(n), arrived=n) for n in range(5)]
    queue = queue_of(*reversed(tickets))
    assert [queue.index(one) for one in tickets] == [0, 1, 2, 3, 4]


def test_who_is_not_in_the_queue_is_not_found_there() -> None:
    inside, outside = ticket("a", arrived=1), ticket("b", arrived=2)
    queue = queue_of(inside)
    assert inside in queue
    assert outside not in queue
    assert ticket("a", arrived=0) not in queue
    assert inside not in Queue()


def test_the_queue_may_change_while_it_is_walked_through() -> None:
    queue = queue_of(*(ticket(str(n), arrived=n) for n in range(3)))
    for one in queue:
        queue.remove(one)
    assert len(queue) == 0


def test_who_waits_is_counted_by_priority_and_nobody_is_counted_who_left() -> None:
    gone = ticket("c", priority=2)
    queue = queue_of(ticket("a"), ticket("b"), gone, ticket("d", priority=-1))
    queue.remove(gone)
    assert queue.waiting() == {0: 2, -1: 1}


def test_the_oldest_is_found_whatever_its_priority() -> None:
    queue = queue_of(
        ticket("a", arrived=5, priority=3),
        ticket("b", arrived=2),
        ticket("c", arrived=7),
        ticket("d", arrived=4, priority=-2),
    )
    assert queue.oldest() == 2


def test_after_any_history_the_queue_agrees_with_a_sorted_list() -> None:
    rng = random.Random(1)
    queue = Queue()
    inside: list[Ticket] = []
    for n in range(300):
        if inside and rng.random() < 0.4:
            queue.remove(inside.pop(rng.randrange(len(inside))))
        else:
            one = ticket(str(n), arrived=rng.randrange(20), priority=rng.randrange(-2, 3))
            inside.append(one)
            queue.add(one)
        assert list(queue) == sorted(inside, key=by_priority_and_arrival)
        assert sum(queue.waiting().values()) == len(queue) == len(inside)
        if inside:
            assert queue.oldest() == min(one.arrived for one in inside)


def test_who_passes_through_an_empty_queue_leaves_it_as_if_it_had_waited_in_it() -> None:
    rng, passed, waited = random.Random(2), Queue(), Queue()
    served: list[Ticket] = []
    for n in range(300):
        one = ticket(str(n), arrived=n, priority=rng.randrange(2), tenant=rng.choice("abc"))
        passed.pass_through(one)
        waited.add(one)
        assert waited.serve() == one
        served.append(one)
        while served and rng.random() < 0.5:
            over = served.pop(rng.randrange(len(served)))
            passed.over(over)
            waited.over(over)
        assert passed == waited
