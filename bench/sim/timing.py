"""How long the calls of classes and modules take: each is wrapped for a while, from outside."""

from __future__ import annotations

import functools
import inspect
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from time import process_time
from types import ModuleType
from typing import Any


@dataclass(slots=True)
class Times:
    """By the name of the call. One within another belongs to the outer."""

    calls: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    depth: int = 0


@contextmanager
def timed(classes: Sequence[type], functions: Sequence[tuple[ModuleType, str]]) -> Iterator[Times]:
    """All public methods of these classes, and functions as these modules call them."""
    times = Times()
    with ExitStack() as stack:
        for owner in classes:
            for name, method in inspect.getmembers(owner, inspect.isfunction):
                if not name.startswith("_"):
                    stack.callback(setattr, owner, name, method)
                    setattr(owner, name, watched(f"{owner.__name__}.{name}", method, times))
        for module, name in functions:
            function = getattr(module, name)
            stack.callback(setattr, module, name, function)
            setattr(module, name, watched(name, function, times))
        yield times


def watched(name: str, method: Callable[..., Any], times: Times) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **named: Any) -> Any:
        if times.depth:
            return method(*args, **named)
        times.depth = 1
        began = process_time()
        try:
            return method(*args, **named)
        finally:
            times.seconds[name] += process_time() - began
            times.calls[name] += 1
            times.depth = 0

    return call
