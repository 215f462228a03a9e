"""What a client may call a model: its id or an alias.

Rule 1: every name that comes from outside becomes an id here, by lookup, or is refused here.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from shared.errors import ModelNotFound, Unavailable

SOON = 5.0  # seconds after which a box that was never heard may have been


def resolve(
    name: str, models: Collection[str], aliases: Mapping[str, str], unheard: Collection[str]
) -> str:
    """The id of the model that is meant. Raises ModelNotFound, which names what there is, or
    Unavailable while a box that was never heard may have it."""
    id = aliases.get(name, name) if name not in models else name
    if id in models:
        return id
    if unheard:
        raise Unavailable(
            f"No box that was heard has {id!r}. Not heard yet: {', '.join(sorted(unheard))}.",
            code="box_unreachable",
            retry_after=SOON,
        )
    raise ModelNotFound(id, sorted(models))


def aliases_of(model: str, aliases: Mapping[str, str]) -> list[str]:
    return [alias for alias, id in aliases.items() if id == model]
