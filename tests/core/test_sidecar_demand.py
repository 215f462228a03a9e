from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest

from shared.demand import Demand, ModelDemand
from sidecar.demand import BY_HAND, MOST_ROUTERS, Demands, Want


def answered(**models: float) -> Callable[[str], float]:
    """When the last load of each model failed."""
    return lambda model: models.get(model, -math.inf)


NOBODY = answered()


def demands() -> Demands:
    return Demands(frozenset({"a", "b"}))


def says(seq: int, ttl: float = 3.0, **models: ModelDemand) -> Demand:
    return Demand(1, seq, ttl, models)


def waiting(count: int = 1, oldest: float = 0.0, sent: int = 0, priority: int = 0) -> ModelDemand:
    return ModelDemand({priority: count}, oldest, sent)


def test_a_message_says_who_waits_and_since_when() -> None:
    box = demands()
    assert box.heard("r", says(1, a=waiting(3, oldest=4.0), b=waiting(0)), 10)
    assert box.wants(NOBODY) == {"a": Want({0: 3}, oldest=6.0, routers=1)}


def test_routers_add_up() -> None:
    box = demands()
    box.heard("r", says(1, a=ModelDemand({0: 3, 1: 1}, 4.0)), 10)
    box.heard("s", says(7, a=ModelDemand({0: 2, -1: 0}, 1.0)), 11)
    assert box.wants(NOBODY) == {"a": Want({0: 5, 1: 1}, oldest=6.0, routers=2)}


def test_a_model_that_this_box_does_not_know_is_ignored() -> None:
    box = demands()
    box.heard("r", says(1, unknown=waiting(sent=2)), 10)
    box.heard("r", says(2, unknown=waiting(sent=4)), 10)
    assert (box.wants(NOBODY), box.due(10)) == ({}, {})


def test_the_newest_message_replaces_the_one_before() -> None:
    box = demands()
    box.heard("r", says(1, a=waiting(3)), 10)
    box.heard("r", says(2, b=waiting(1)), 11)
    assert set(box.wants(NOBODY)) == {"b"}


def test_an_old_or_repeated_message_changes_nothing() -> None:
    box = demands()
    box.heard("r", says(5, a=waiting(3, sent=1)), 10)
    for seq in (5, 4, 0):
        assert not box.heard("r", says(seq, ttl=60, b=waiting(9, sent=9)), 11)
        assert box.wants(NOBODY) == {"a": Want({0: 3}, 10.0)}
        assert (box.due(11), box.deadline(11)) == ({}, 13)


def test_messages_of_different_routers_may_come_in_any_order() -> None:
    told = {
        "r": [says(1, a=waiting(2, 1.0)), says(2, a=waiting(1, 0.5, sent=1), b=waiting(1, 0.1))],
        "s": [says(1, a=waiting(1, 2.0)), says(2, a=waiting(0, sent=3))],
    }
    seen = set()
    for order in set(itertools.permutations("rrss")):
        box, left = demands(), {router: iter(messages) for router, messages in told.items()}
        for router in order:
            box.heard(router, next(left[router]), 10)
        wants = {m: (sorted(w.waiting.items()), w.oldest) for m, w in box.wants(NOBODY).items()}
        seen.add(repr((wants, box.due(10), box.deadline(10))))
    assert len(seen) == 1


# Silence.


def test_a_router_that_is_silent_for_its_time_leaves_no_trace() -> None:
    box = demands()
    box.heard("r", says(5, ttl=3, a=waiting()), 10)
    box.heard("s", says(1, ttl=9, b=waiting()), 10)
    assert box.deadline(10) == 13
    assert not box.forget_silent(12.9)
    assert box.forget_silent(13)
    assert set(box.wants(NOBODY)) == {"b"}
    assert box.heard("r", says(1, a=waiting()), 14)  # not even its `seq`
    assert box.deadline(14) == 17


def test_without_routers_nothing_is_expected() -> None:
    assert demands().deadline(0) == math.inf


def test_one_router_too_many_is_ignored() -> None:
    box = demands()
    for n in range(MOST_ROUTERS):
        assert box.heard(f"r{n}", says(1), 10)
    assert not box.heard("one more", says(1, a=waiting()), 10)
    assert box.wants(NOBODY) == {}
    assert box.heard("r0", says(2, a=waiting()), 10)


# Requests on the wire.


def test_what_was_sent_before_the_first_message_is_not_expected() -> None:
    box = demands()
    box.heard("r", says(1, a=waiting(sent=17)), 10)
    assert box.due(10) == {}
    box.heard("r", says(2, a=waiting(sent=18)), 10)
    assert box.due(10) == {"a": 1}


def test_a_request_is_due_from_its_announcement_until_it_arrives() -> None:
    box = demands()
    box.heard("r", says(1, a=waiting(2)), 10)
    box.heard("r", says(2, a=waiting(0, sent=2)), 11)
    assert box.due(11) == {"a": 2}
    box.admitted("r", "a")
    assert box.due(11.1) == {"a": 1}
    box.admitted("r", "a")
    assert box.due(11.1) == {}


def test_a_request_that_is_here_before_its_announcement_is_not_due() -> None:
    box = demands()
    box.heard("r", says(1, a=waiting(1)), 10)
    box.admitted("r", "a")
    box.heard("r", says(2, a=waiting(0, sent=1)), 11)
    assert box.due(11) == {}


def test_a_request_that_is_on_the_wire_for_250_ms_is_lost() -> None:
    box = demands()
    box.heard("r", says(1, a=waiting(1)), 10)
    box.heard("r", says(2, a=waiting(0, sent=1)), 11)
    assert box.deadline(11) == 11.25
    assert box.due(11.24) == {"a": 1}
    assert box.due(11.25) == {}
    assert box.deadline(11.25) == 14
    box.heard("r", says(3, a=waiting(0, sent=1)), 12)  # repeated, not sent again
    assert box.due(12) == {}


def test_a_model_that_is_named_for_the_first_time_may_be_on_the_wire_too() -> None:
    box = demands()
    box.heard("r", says(1), 10)
    box.heard("r", says(2, a=waiting(0, sent=1)), 11)
    assert box.due(11) == {"a": 1}


def test_a_model_that_a_router_names_no_more_is_not_due() -> None:
    box = demands()
    box.heard("r", says(1, a=waiting(1)), 10)
    box.heard("r", says(2, a=waiting(0, sent=1)), 11)
    box.heard("r", says(3), 11)
    assert (box.due(11), box.deadline(11)) == ({}, 14)


def test_requests_of_routers_that_were_never_heard_are_not_counted() -> None:
    box = demands()
    box.admitted("stranger", "a")
    box.heard("stranger", says(1, a=waiting(0)), 10)
    box.heard("stranger", says(2, a=waiting(0, sent=1)), 10)
    assert box.due(10) == {"a": 1}


# What a failed load answers.


def test_a_failed_load_answers_all_who_came_before_it() -> None:
    box = demands()
    box.heard("r", says(1, a=waiting(2, oldest=5)), 10)
    box.heard("s", says(1, a=waiting(1, oldest=1)), 10)
    assert box.wants(answered(a=5))["a"].count == 1
    assert box.wants(answered(a=9)) == {}
    assert box.wants(answered(b=99))["a"].count == 3


# Weights.


def test_one_level_of_priority_counts_four_times() -> None:
    assert Want({0: 3}, 0).weight == 1
    assert Want({0: 3, 2: 1}, 0).weight == 16
    assert Want({-1: 1}, 0).weight == 0.25


def test_one_waits_as_long_as_it_does_and_many_half_as_long_as_the_oldest() -> None:
    assert Want({0: 1}, oldest=4).waited(10) == 6
    assert Want({0: 4}, oldest=4).waited(10) == 12
    assert Want({0: 1, 1: 1}, oldest=4).waited(10) == 15


@pytest.mark.parametrize(("waiting", "by_hand"), [({BY_HAND: 1, 0: 2}, True), ({0: 2}, False)])
def test_what_an_operator_asks_for_is_known_by_its_priority(
    waiting: dict[int, int], by_hand: bool
) -> None:
    assert Want(waiting, 0).by_hand is by_hand


def test_a_request_that_was_refused_waits_again_before_its_router_says_so() -> None:
    box = demands()
    box.heard("r", says(1, a=waiting(oldest=5.0)), 10.0)
    box.heard("r", says(2, a=ModelDemand(sent=1)), 11.0)
    assert box.wants(NOBODY) == {}
    box.refused("r", "a", 11.0)
    assert box.wants(NOBODY)["a"].oldest == 5.0  # it has its old arrival
    assert box.due(11.0) == {}
    box.heard("r", says(3, a=ModelDemand(sent=1)), 11.1)
    assert box.wants(NOBODY) == {}  # what the router says holds again


def test_a_message_that_had_left_before_a_refusal_was_heard_does_not_make_a_model_idle() -> None:
    box = demands()
    box.heard("r", says(1, a=waiting(oldest=5.0)), 10.0)
    box.refused("r", "a", 11.0)
    box.heard("r", says(2, a=ModelDemand(sent=1)), 11.01)  # it tells of the request, as sent
    assert box.due(11.24) == {"a": 1}
    assert box.deadline(11.1) == 11.25
    assert box.due(11.25) == {}


def test_a_refused_request_that_its_router_tells_of_is_no_longer_due() -> None:
    box = demands()
    box.heard("r", says(1, a=waiting(oldest=5.0)), 10.0)
    box.refused("r", "a", 11.0)
    box.heard("r", says(2, a=waiting(oldest=6.05, sent=1)), 11.05)
    assert box.wants(NOBODY)["a"].count == 1
    assert box.due(11.05) == {}


def test_a_refused_request_of_a_router_that_never_waited_counts_from_its_last_message() -> None:
    box = demands()
    box.heard("r", says(1, a=ModelDemand(sent=1)), 10.0)
    box.refused("r", "a", 11.0)
    assert box.wants(NOBODY)["a"].oldest == 10.0
    box.refused("stranger", "a", 11.0)
    assert box.wants(NOBODY)["a"].count == 1
