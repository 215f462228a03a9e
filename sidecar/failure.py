"""Why an engine ended, or is not there: records, told by shells and by the table.

Rule: nothing is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Cause = Literal[
    "vram_oom",
    "file_missing",
    "bad_flag",
    "port_in_use",
    "crashed",
    "stalled",
    "timeout",
    "unkillable",
]


LogTail = tuple[str, ...]  # the last lines that an engine has said


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the engine is not there."""

    code: Literal["load_failed", "engine_died", "engine_stalled"]
    cause: Cause
    message: str
    at: float
    log_tail: LogTail = ()


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended, told with `Fact.EXITED` or `Fact.ENDED`, or why it must, with
    `Fact.STALLED` or `Fact.OVERDUE`."""

    cause: Cause
    how: str  # "exited with code 1"
    log_tail: LogTail = ()
    last_words: str = ""  # the line of it that tells most
