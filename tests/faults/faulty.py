"""One of the real programs with a fault in it, for as long as a file is there.

python faulty.py MODULE:CLASS.METHOD raise|block FILE sidecar|router --config ...

Rule: the product has no hooks for tests; what is called here is what it calls itself.
"""

import functools
import importlib
import os
import sys
import time
from collections.abc import Callable
from typing import Any


class InjectedError(Exception):
    """What no line of the programs expects."""


def inject(where: str, how: str, file: str) -> None:
    module, _, name = where.partition(":")
    owner, _, method = name.partition(".")
    holder = getattr(importlib.import_module(module), owner)
    setattr(holder, method, faulty(getattr(holder, method), how, file))


def faulty(real: Callable[..., Any], how: str, file: str) -> Callable[..., Any]:
    @functools.wraps(real)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if how == "raise" and os.path.exists(file):
            raise InjectedError
        while os.path.exists(file):
            time.sleep(0.01)
        return real(*args, **kwargs)

    return wrapper


def main() -> None:
    where, how, file, program, *arguments = sys.argv[1:]
    inject(where, how, file)
    sys.argv = [program, *arguments]
    importlib.import_module(f"{program}.__main__").main()


if __name__ == "__main__":
    main()
