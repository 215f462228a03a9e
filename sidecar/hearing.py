"""What has happened is told to the box, and what follows is done, as far as it can be decided.

It decides nothing. A fact of an engine that the box could not take in is told again: nobody else
will ever say it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from shared.heart import AGAIN, DUE, Heart, Undecided
from sidecar.box import Box
from sidecar.engine import Do, Unsettled
from sidecar.failure import Exit
from sidecar.machine import Fact, IllegalFact

Happening = Callable[[float], list[Do]]


class Hearing:
    """`act` does what follows."""

    def __init__(self, box: Box, heart: Heart, act: Callable[[list[Do]], None]) -> None:
        self._box = box
        self._heart = heart
        self._act = act
        self._untold: dict[str, tuple[Fact, Exit | None]] = {}  # the last of each model
        self.again_at = math.inf  # when what could not be done is tried the next time

    def tell(self, happened: Happening) -> None:
        """Raises if what follows cannot be decided."""
        try:
            effects = happened(time.monotonic())
        except Unsettled as error:
            self.again_at = time.monotonic() + AGAIN
            self._act(error.effects)
            with self._heart.deciding():  # the next time with all that is due
                raise
        self._act(effects)

    def seen(self, happened: Happening, about: str = DUE) -> None:
        """By a task of ours: it goes on, even if that cannot be decided now."""
        with suppress(Undecided), self._heart.deciding(about):
            self.tell(happened)

    def of(self, model: str) -> Told:
        """For who follows a launch of that model."""
        return Told(self, self._box, model)

    def fact(self, model: str, fact: Fact, exit: Exit | None) -> None:
        """What comes later makes it good that an earlier one was not taken in."""
        try:
            with self._heart.deciding(about(model)):
                self.tell(lambda now: self._box.saw(model, fact, now, exit))
        except Undecided as error:
            if not isinstance(error.__cause__, Unsettled | IllegalFact):
                self._untold[model] = fact, exit
                self.again_at = time.monotonic() + AGAIN
                return
        self._untold.pop(model, None)  # it is in the table, or can never be

    def again(self) -> None:
        self.again_at = math.inf
        for model, (fact, exit) in list(self._untold.items()):
            self.fact(model, fact, exit)


@dataclass(frozen=True, slots=True)
class Told:
    """The facts of one launch, on their way to the box."""

    hearing: Hearing
    box: Box
    model: str

    def saw(self, fact: Fact, exit: Exit | None = None) -> None:
        self.hearing.fact(self.model, fact, exit)

    def progressed(self, value: float) -> None:
        self.hearing.seen(lambda now: self.box.progressed(self.model, value, now))

    def sign_of_life(self) -> None:
        self.box.sign_of_life(self.model, time.monotonic())


def about(model: str) -> str:
    return f"the engine of {model}"
