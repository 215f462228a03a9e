"""What the one who watches is told: each step, how long it took, and what was found."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

BEGAN = time.monotonic()


class Failed(Exception):
    """Something is not as it must be."""


def say(text: str) -> None:
    print(f"{time.monotonic() - BEGAN:6.1f} s  {text}", flush=True)


def check(text: str, holds: object, why: str = "") -> None:
    """Said if it holds; else the end."""
    if not holds:
        raise Failed(f"NOT SO: {text}\n{why}")
    say(f"ok: {text}")


@contextlib.contextmanager
def timed(text: str) -> Iterator[None]:
    say(text)
    began = time.monotonic()
    yield
    say(f"... {time.monotonic() - began:.1f} s")
