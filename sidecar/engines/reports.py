"""What llama.cpp says of its own load, on its standard output.

With `LLAMA_SERVER_ROUTER_PORT` in its environment it prints
`cmd_child_to_router:state:{"state": "loading", "payload": {"value": 0.31, ...}}` as it loads, and
the same with `"state": "ready"` the moment it can serve.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

PREFIX = "cmd_child_to_router:state:"


@dataclass(frozen=True, slots=True)
class Loading:
    value: float  # 0 to 1


@dataclass(frozen=True, slots=True)
class Ready:
    """It serves."""


def parse(line: str) -> Loading | Ready | None:
    """None for every line that is not such a report."""
    _, found, text = line.partition(PREFIX)
    if not found:
        return None
    try:
        report = json.loads(text)
    except ValueError:
        return None
    match report:
        case {"state": "ready"}:
            return Ready()
        case {"state": "loading", "payload": {"value": int() | float() as part}} if 0 <= part <= 1:
            return Loading(float(part))
        case {"state": "loading"}:
            return Loading(0.0)
        case _:
            return None
