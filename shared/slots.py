"""What may be shown of an engine's slots: counts and flags, never a word of what goes through them.

Rule 1: every field that passes is listed here, and none of them can hold text.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True)
class NextToken:
    has_next_token: bool | None = None
    has_new_line: bool | None = None
    n_remain: int | None = None
    n_decoded: int | None = None


@dataclass(frozen=True, slots=True)
class Slot:
    """As llama.cpp's server names it. One that was never used has only the first four."""

    id: int
    is_processing: bool
    n_ctx: int | None = None
    speculative: bool | None = None
    id_task: int | None = None
    n_prompt_tokens: int | None = None
    n_prompt_tokens_processed: int | None = None
    n_prompt_tokens_cache: int | None = None
    next_token: tuple[NextToken, ...] | NextToken | None = None  # older builds: no array


def shown(answer: bytes) -> list[dict[str, Any]]:
    """What of an answer to `GET /slots` may go on. Raises ValueError if it is none."""
    slots = _SLOTS.validate_json(answer, strict=True)
    listed: list[dict[str, Any]] = _SLOTS.dump_python(slots, mode="json", exclude_none=True)
    return listed


_SLOTS = TypeAdapter(list[Slot])
