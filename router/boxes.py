"""Every box, and by model which of them have it, hold it or have failed to load it.

Rule 1: what is true of a box, its view says; here it is only found without looking at all of them.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from router.view import BoxView, Mark
from shared.status import Catalogue, Status


class Boxes:
    def __init__(self, keys: Iterable[str], optional: Iterable[str] = ()) -> None:
        may_be_off = frozenset(optional)
        self.views = {key: BoxView(key, key, optional=key in may_be_off) for key in keys}
        self.having: dict[str, list[BoxView]] = {}  # by model; lost ones too
        # By model, then box: boxes whose newest Status has something to say of it.
        self._marked: defaultdict[str, dict[str, BoxView]] = defaultdict(dict)

    def know(self, key: str, catalogue: Catalogue) -> None:
        self.views[key].know(catalogue)
        self.having = {}
        for box in self.views.values():
            for model in box.facts:
                self.having.setdefault(model, []).append(box)

    def hear(self, key: str, status: Status, now: float) -> list[str]:
        """The models of which it says something else than before: held or not, failed or not."""
        box = self.views[key]
        before = box.marks
        box.hear(status, now)
        for model in before.keys() - box.marks.keys():
            del self._marked[model][key]
        for model in box.marks.keys() - before.keys():
            self._marked[model][key] = box
        return changed(before, box.marks)

    def marked(self, model: str) -> Iterable[BoxView]:
        """Those whose newest Status has something to say of it: all that hold it among them."""
        return self._marked[model].values() if model in self._marked else ()

    def holding(self, model: str) -> list[BoxView]:
        return [box for box in self.marked(model) if box.holds(model)]

    def failed(self, model: str) -> list[BoxView]:
        """Where its newest load has failed."""
        return [box for box in self.marked(model) if box.live and box.load_error(model)]


def changed(before: dict[str, Mark], after: dict[str, Mark]) -> list[str]:
    """In an order that does not depend on hashes."""
    either = dict.fromkeys([*before, *after])
    return [model for model in either if before.get(model) != after.get(model)]
