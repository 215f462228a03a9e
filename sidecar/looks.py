"""Looks that are made again and again, and may fail for a while: descriptors run out, a disk fails.

Rule: one that fails is tried again at its time, and told once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

log = structlog.get_logger()


class Looks:
    """`at`: what is looked at, for the log."""

    def __init__(self, at: str) -> None:
        self._at = at
        self._failing = False

    @contextmanager
    def one(self) -> Iterator[None]:
        """The block ends early where the system refuses something."""
        try:
            yield
        except OSError as error:
            if not self._failing:
                log.warning("a look has failed, and is made again", at=self._at, error=str(error))
            self._failing = True
        else:
            self._failing = False
