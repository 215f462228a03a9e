from __future__ import annotations

from typing import Any

from router.cli import table

BOX: dict[str, Any] = {"box": "box1", "live": True, "models": [], "problems": [], "plan": []}


def shown(waiting: int, **box: Any) -> list[str]:
    line = {"model": "big", "waiting": waiting, "oldest_s": 4.2, "box": "box1"}
    return table({"boxes": [BOX | box], "line": [line]}).splitlines()[1:]


def test_who_waits_is_shown_with_the_reason_that_the_box_gives() -> None:
    plan = [
        {"action": "start", "model": "other", "because": "asked for by hand"},
        {"action": "wait", "model": "big", "because": "other may be served for 3.0 s more"},
    ]
    assert shown(2, plan=plan) == [
        "2 wait for big, oldest 4.2 s",
        "  other may be served for 3.0 s more",
    ]


def test_who_waits_where_no_box_has_said_anything_of_it_yet_is_shown_without_a_reason() -> None:
    assert shown(1) == ["1 waits for big, oldest 4.2 s"]
