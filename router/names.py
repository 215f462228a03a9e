"""What a client may call a model: its id or an alias.

Rule 1: every name that comes from outside becomes an id here, by lookup, or is refused here.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from shared.errors import ModelNotFound


def resolve(name: str, models: Collection[str], aliases: Mapping[str, str]) -> str:
    """The id of the model that is meant. Raises ModelNotFound, which names what there is."""
    id = name if name in models else aliases.get(name)
    if id is None or id not in models:
        raise ModelNotFound(name, sorted(models))
    return id
