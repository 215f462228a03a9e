from __future__ import annotations

import math
import random

from router.agenda import SPARE, Agenda


def test_the_first_is_what_is_due_first_and_what_was_put_off_is_due_later() -> None:
    agenda = Agenda()
    assert agenda.first() == math.inf
    for name, when in (("a", 3.0), ("b", 2.0), ("c", 1.0), ("c", 4.0), ("a", 3.0)):
        agenda.set(name, when)
    agenda.drop("nobody")
    assert agenda.first() == 2.0
    assert agenda.due(1.9) == []
    assert agenda.due(3.0) == ["b", "a"]
    assert agenda.due(3.0) == []
    agenda.drop("c")
    assert agenda.first() == math.inf


def test_what_was_due_may_be_set_anew() -> None:
    agenda = Agenda()
    agenda.set("a", 1.0)
    assert agenda.due(1.0) == ["a"]
    agenda.set("a", 1.0)
    assert agenda.due(1.0) == ["a"]


def test_in_any_order_it_is_what_a_plain_table_says_and_it_does_not_grow() -> None:
    rng, agenda = random.Random(1), Agenda()
    table: dict[str, float] = {}
    for now in range(3000):
        name, when = rng.choice("abcdefgh"), now + rng.random() * 500
        if rng.random() < 0.9:
            agenda.set(name, when)
            table[name] = when
        else:
            agenda.drop(name)
            table.pop(name, None)
        assert agenda.first() == min(table.values(), default=math.inf)
        due = agenda.due(now)
        assert sorted(due) == sorted(name for name, when in table.items() if when <= now)
        for name in due:
            del table[name]
    assert len(agenda._heap) <= 2 * len(table) + SPARE
