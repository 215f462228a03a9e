from __future__ import annotations

from router.boxes import Boxes
from shared.status import ModelStatus, Phase
from tests.core.said import catalogue, idle, load_error, never_fits, ready, starting, status


def heard(*models: ModelStatus, boxes: str = "ab") -> Boxes:
    """All of these boxes have said this."""
    known = Boxes(boxes)
    for box in boxes:
        known.know(box, catalogue(*(model.id for model in models), box=box))
        known.hear(box, status(*models, box=box), 0.0)
    return known


def names(boxes: Boxes, model: str) -> list[str]:
    return [box.key for box in boxes.holding(model)]


def test_a_box_has_what_its_newest_catalogue_says() -> None:
    boxes = Boxes("ab", optional="b")
    assert [box.optional for box in boxes.views.values()] == [False, True]
    boxes.know("b", catalogue("x", "y", box="b"))
    boxes.know("a", catalogue("x", box="a"))
    assert {m: [box.key for box in has] for m, has in boxes.having.items()} == {
        "x": ["a", "b"],
        "y": ["b"],
    }
    boxes.know("b", catalogue("y", box="b"))
    assert [box.key for box in boxes.having["x"]] == ["a"]


def test_what_holds_a_model_is_found_and_what_does_not_any_more_is_not() -> None:
    boxes = heard(ready("x"), starting("y"), idle("z"))
    assert (names(boxes, "x"), names(boxes, "y"), names(boxes, "z")) == (["a", "b"],) * 2 + ([],)
    boxes.hear("a", status(idle("x"), ModelStatus("y", Phase.STOPPING), box="a", seq=2), 1.0)
    assert (names(boxes, "x"), names(boxes, "y")) == (["b"], ["b"])
    boxes.views["b"].lose(2.0)
    assert names(boxes, "x") == []


def test_where_the_newest_load_has_failed_is_found() -> None:
    error = load_error(1.0)
    boxes = heard(idle("x", error), starting("y", error=error), idle("z", never_fits()))
    assert [box.key for box in boxes.failed("x")] == ["a", "b"]
    assert boxes.failed("y") == [], "it is being tried again"
    assert boxes.failed("z") == []
    boxes.views["a"].lose(2.0)
    assert [box.key for box in boxes.failed("x")] == ["b"]


def test_it_is_told_of_which_models_a_status_says_something_else() -> None:
    boxes = heard(ready("w", in_flight=1), starting("x"), idle("y"), ModelStatus("z", Phase.READY))
    said = (
        ready("w", in_flight=3),
        ready("x"),
        idle("y", load_error(1.0)),
        ModelStatus("z", Phase.SWITCHING),
    )
    assert boxes.hear("a", status(*said, box="a", seq=2), 1.0) == ["x", "z", "y"]
    assert boxes.hear("a", status(*said, box="a", seq=3), 1.0) == []
    assert boxes.hear("a", status(box="a", seq=4), 1.0) == ["w", "x", "y", "z"]
