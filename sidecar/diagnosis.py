"""Why an engine ended, from its exit code and its last lines.

Rule 1: the causes that clients and operators are told are chosen here and nowhere else.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

from sidecar.engines import reports
from sidecar.failure import Cause, Exit

LINES_TOLD = 20  # of the log, with a failure

# First match wins: an engine that runs out of memory may complain of a file afterwards.
CAUSES: tuple[tuple[Cause, str], ...] = (
    (
        "vram_oom",
        r"out of memory|insufficient memory|cudaMalloc failed|failed to allocate"
        r"|unable to allocate",
    ),
    ("port_in_use", r"address already in use|couldn't bind|could not bind|failed to bind"),
    (
        "bad_flag",
        r"invalid argument|unrecognized argument|unknown argument|unknown option|invalid option"
        r"|invalid choice|no such option|arguments are required|error while handling argument"
        r"|to show complete usage",  # llama.cpp's own explanation of a flag may be long
    ),
    ("file_missing", r"no such file|file not found|does not exist|failed to open|cannot open"),
)

STAMP = r"\d+(?:\.\d+){3}"  # llama.cpp's: minutes, seconds, milliseconds, microseconds
# What it marks as an error, here without time and mark: the first such line names the fault, the
# next ones what came of it.
ERROR = re.compile(rf"{STAMP} E (?P<error>.+)|(?P<usage>error while handling argument.+)")
# What else it says names no fault. llama-server may end before its last lines are written
# (llama.cpp #22142), and then this is all that there is.
CHATTER = re.compile(rf"{STAMP} [A-Z] |.*{reports.PREFIX}")


def diagnose(code: int | None, log_tail: Sequence[str]) -> Exit:
    """`code` as subprocess gives it: negative for a signal; None if nobody could see it."""
    tail = tuple(log_tail[-LINES_TOLD:])
    text = "\n".join(tail)
    found = (c for c, words in CAUSES if re.search(words, text, re.IGNORECASE))
    cause: Cause = next(found, "crashed")
    return Exit(cause, ended(code), tail, last_words(tail))


def last_words(tail: Sequence[str]) -> str:
    errors = (found for line in tail if (found := ERROR.match(line)))
    if (first := next(errors, None)) is not None:
        return (first["error"] or first["usage"]).strip()
    said = (line.strip() for line in reversed(tail) if not CHATTER.match(line))
    return next(filter(None, said), "")


def could_not_start(program: str, error: OSError) -> Exit:
    missing = isinstance(error, FileNotFoundError | NotADirectoryError)
    cause: Cause = "file_missing" if missing else "crashed"
    return Exit(cause, f"{program} cannot be started: {error.strerror or error}")


def nowhere_to_write(error: OSError) -> Exit:
    return Exit("crashed", f"its log cannot be written: {error.strerror}: {error.filename}")


def ended(code: int | None) -> str:
    if code is None:
        return "ended, and nobody was there to see how"
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal has no name
        return f"ended by signal {-code}"
