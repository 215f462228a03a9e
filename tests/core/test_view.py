from __future__ import annotations

import pytest

from router.queue import Ticket
from router.view import BoxView
from shared.status import ModelStatus, Phase
from tests.core.said import (
    catalogue,
    idle,
    load_error,
    never_fits,
    ready,
    starting,
    status,
    ticket,
    view,
)


def tickets(n: int) -> list[Ticket]:
    return [ticket(str(i)) for i in range(n)]


def test_a_box_that_was_never_heard_is_not_live_and_holds_nothing() -> None:
    box = BoxView("http://a", name="http://a")
    assert not box.live
    assert not box.has("x")
    assert not box.holds("x")
    assert (box.free_slots("x"), box.busy("x"), box.share_taken("x")) == (0, 0, 1.0)
    assert box.newest() == ("", 0)
    assert box.error("x") is None
    assert box.load_failed_at("x") is None
    assert box.backs_off_until("x") == 0.0
    assert not box.can_never_hold("x")


def test_a_box_is_known_by_the_name_that_it_says() -> None:
    box = BoxView("http://a", name="http://a")
    box.know(catalogue("x", box="alpha"))
    assert box.name == "alpha"
    assert box.has("x")
    assert not box.live, "a catalogue says nothing of now"
    box.hear(status(box="beta"), 1.0)
    assert (box.name, box.live, box.heard_at) == ("beta", True, 1.0)


def test_a_lost_box_keeps_its_models_and_serves_nothing() -> None:
    box = view("a", ready("x"))
    box.lose(5.0)
    assert not box.live
    assert box.has("x")
    assert not box.holds("x")
    assert box.free_slots("x") == 0


def test_a_box_is_lost_since_its_first_loss_until_it_is_heard() -> None:
    box = view("a", ready("x"))
    box.lose(5.0)
    box.lose(9.0)
    assert box.lost_at == 5.0
    box.hear(status(ready("x")), 10.0)
    assert box.live
    assert box.free_slots("x") == 4


@pytest.mark.parametrize("phase", list(Phase))
def test_a_box_holds_a_model_that_is_ready_or_on_its_way(phase: Phase) -> None:
    box = view("a", ModelStatus("x", phase, slots=2))
    assert box.holds("x") == (phase in (Phase.READY, Phase.STARTING))
    assert (box.free_slots("x") == 2) == (phase is Phase.READY)


def test_free_slots_are_those_of_the_snapshot_less_sent_plus_released_since() -> None:
    box = view("a", ready("x", slots=4, in_flight=1))
    first, second, *_ = tickets(2)
    assert box.free_slots("x") == 3
    box.took(first)
    box.took(second)
    assert box.free_slots("x") == 1
    box.released(first)
    assert box.free_slots("x") == 2
    box.released(ticket("sent before the snapshot"))
    assert box.free_slots("x") == 3


def test_a_new_snapshot_holds_all_that_was_sent_and_released_before_it() -> None:
    box = view("a", ready("x", slots=4))
    for one in tickets(3):
        box.took(one)
    box.hear(status(ready("x", slots=4, in_flight=3), seq=2), 1.0)
    assert box.free_slots("x") == 1
    assert box.sent["x"] == 3, "this count is for good"


def test_a_new_snapshot_knows_of_all_that_was_released_before_it() -> None:
    box = view("a", ready("x", slots=4, in_flight=3))
    one = ticket("1")
    box.took(one)
    box.released(one)
    box.hear(status(ready("x", slots=4, in_flight=3), seq=2), 1.0)
    assert box.free_slots("x") == 1


def test_a_snapshot_older_than_what_was_sent_last_does_not_make_us_send_more_than_slots() -> None:
    box = view("a", ready("x", slots=2))
    for one in tickets(2):
        box.took(one)
    box.hear(status(ready("x", slots=2, in_flight=0), seq=2), 1.0)
    assert box.free_slots("x") == 0


def test_a_release_that_the_snapshot_knew_of_already_does_not_count_twice() -> None:
    box = view("a", ready("x", slots=2))
    one, other = tickets(2)
    box.took(one)
    box.took(other)
    box.hear(status(ready("x", slots=2, in_flight=1), seq=2), 1.0)
    box.released(one)
    assert box.free_slots("x") == 1


def test_busy_is_what_the_snapshot_says_with_what_was_sent_and_released_since() -> None:
    box = view("a", ready("x", slots=4, in_flight=2))
    one, other = tickets(2)
    box.took(one)
    box.took(other)
    assert (box.busy("x"), box.share_taken("x")) == (4, 1.0)
    box.released(one)
    assert (box.busy("x"), box.share_taken("x")) == (3, 0.75)
    box.hear(status(ready("x", slots=4), seq=2), 1.0)
    assert box.busy("x") == 1, "the snapshot is older than what was sent last"


def test_a_model_is_found_wherever_a_status_lists_it() -> None:
    box = view("a", idle("x"), ready("y", slots=7))
    said = (ready("z", slots=1), ready("y", slots=2), starting("x"))
    box.hear(status(*said, seq=2), 1.0)
    assert (box.phase("x"), box.free_slots("y"), box.free_slots("z")) == (Phase.STARTING, 2, 1)
    box.hear(status(ready("y", slots=3), seq=3), 1.0)
    assert (box.of("x"), box.phase("x"), box.free_slots("y")) == (None, Phase.IDLE, 3)
    assert box.of("z") is None


def test_it_is_marked_what_a_box_holds_and_what_has_failed_there_and_nothing_else() -> None:
    error = load_error(1.0)
    models = (idle("v"), ready("w"), starting("x", error=error), ModelStatus("y", Phase.STOPPING))
    assert view("a", *models, idle("z", error)).marks == {
        "w": (Phase.READY, None),
        "x": (Phase.STARTING, error),
        "y": (None, None),
        "z": (None, error),
    }


def test_models_have_slots_of_their_own() -> None:
    box = view("a", ready("x", slots=1), ready("y", slots=1))
    box.took(ticket("1", "x"))
    assert (box.free_slots("x"), box.free_slots("y")) == (0, 1)


@pytest.mark.parametrize(
    ("slots", "in_flight", "routers", "share"),
    [(4, 0, 1, 4), (4, 0, 0, 4), (4, 0, 2, 2), (4, 1, 2, 2), (4, 3, 3, 1), (4, 4, 2, 0)],
)
def test_several_routers_share_what_is_free_and_round_up(
    slots: int, in_flight: int, routers: int, share: int
) -> None:
    box = view("a", ready("x", slots=slots, in_flight=in_flight, routers=routers))
    assert box.free_slots("x") == share


def test_what_was_released_here_is_not_shared() -> None:
    box = view("a", ready("x", slots=4, in_flight=4, routers=4))
    box.released(ticket("1"))
    assert box.free_slots("x") == 1


def test_more_in_flight_than_slots_is_no_free_slot() -> None:
    assert view("a", ready("x", slots=1, in_flight=3, routers=2)).free_slots("x") <= 0


def test_after_a_refusal_the_box_is_offered_nothing_until_it_says_something_newer() -> None:
    box = view("a", ready("x"), seq=5)
    one = ticket("1")
    box.took(one)
    box.refused(one, "b1", 7)
    assert box.free_slots("x") == 0
    box.hear(status(ready("x"), seq=7), 1.0)
    assert box.free_slots("x") == 0
    box.hear(status(ready("x"), seq=8), 2.0)
    assert box.free_slots("x") == 4


def test_a_refusal_holds_back_that_model_only() -> None:
    box = view("a", ready("x"), ready("y"))
    box.refused(ticket("1", "x"), "b1", 1)
    assert (box.free_slots("x"), box.free_slots("y")) == (0, 4)


def test_a_new_boot_takes_what_the_old_one_refused() -> None:
    box = view("a", ready("x"), seq=9)
    box.refused(ticket("1"), "b1", 9)
    box.hear(status(ready("x"), boot="b2", seq=1), 1.0)
    assert box.free_slots("x") == 4


def test_a_refusal_that_is_older_than_the_newest_snapshot_holds_nothing_back() -> None:
    box = view("a", ready("x"), seq=1)
    one = ticket("1")
    box.took(one)
    box.hear(status(ready("x"), seq=3), 1.0)
    box.refused(one, "b1", 2)
    assert box.free_slots("x") == 4, "nor does it free a slot that was never taken"


def test_a_refusal_of_a_boot_that_was_not_heard_yet_is_not_answered_by_trying_again_at_once() -> (
    None
):
    box = view("a", ready("x"), boot="b1", seq=9)
    box.refused(ticket("1"), "b2", 1)
    assert box.free_slots("x") == 0
    box.hear(status(ready("x"), boot="b2", seq=1), 1.0)
    assert box.free_slots("x") == 0
    box.hear(status(ready("x"), boot="b2", seq=2), 2.0)
    assert box.free_slots("x") == 4


def test_a_refused_request_takes_no_slot() -> None:
    box = view("a", ready("x", slots=2))
    one, other = tickets(2)
    box.took(one)
    box.took(other)
    box.refused(one, "b1", 0)
    assert box.free_slots("x") == 1
    assert box.sent["x"] == 2, "a refused request was sent"


def test_a_failed_load_is_placed_on_our_clock() -> None:
    box = view("a", idle("x", load_error(at=990.0)), at=1000.0, now=50.0)
    assert box.load_failed_at("x") == 40.0


def test_a_load_that_is_tried_again_has_not_failed() -> None:
    box = view("a", starting("x", error=load_error(at=990.0)))
    assert (box.load_error("x"), box.load_failed_at("x")) == (None, None)
    assert box.error("x") is not None


def test_only_a_failed_load_fails_those_who_wait() -> None:
    assert view("a", idle("x", never_fits())).load_failed_at("x") is None
    assert view("a", idle("x")).load_failed_at("x") is None


def test_back_off_counts_from_when_it_was_heard() -> None:
    box = view("a", idle("x", load_error(at=990.0, retry_in_s=20.0)), now=50.0)
    assert box.backs_off_until("x") == 70.0
    assert view("a", idle("x", load_error(990.0)), now=50.0).backs_off_until("x") == 50.0


def test_what_can_never_fit_is_told_from_what_failed() -> None:
    assert view("a", idle("x", never_fits())).can_never_hold("x")
    assert not view("a", idle("x", load_error(1.0))).can_never_hold("x")
    assert not view("a", starting("x")).can_never_hold("x")
