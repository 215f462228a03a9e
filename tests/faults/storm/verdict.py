"""The figures of a storm, and what among them may not be.

Rule: a storm in which little happened, or in which little was served, shows nothing: it fails.
"""

from collections.abc import Mapping
from typing import Any

from tests.faults.storm.box_history import BoxHistory
from tests.faults.storm.history import History

LEAST_OK = 0.6  # of all requests; storms have some 0.8
MOST_EXCUSED = 0.15  # of all requests; storms have some 0.06
LEAST_DONE = 0.5  # of the faults that were planned: the others met nobody
MOST_MIB = 8.0


def of_requests(history: History) -> list[str]:
    if not history.asked:
        return ["nobody asked"]
    ok, excused = history.ends["ok"] / history.asked, history.excused / history.asked
    found = []
    if ok < LEAST_OK:
        found.append(f"only {ok:.2f} of all requests were served")
    if excused > MOST_EXCUSED:
        found.append(f"{excused:.2f} of all requests heard nothing more, and were let pass")
    return found


def of_faults(done: int, planned: int) -> list[str]:
    return [] if done >= LEAST_DONE * planned else [f"{done} of {planned} faults met anybody"]


def of_box(box: BoxHistory) -> list[str]:
    """What was never looked at cannot have been right."""
    counts = {"Statuses": box.statuses, "adjoining Statuses": box.adjoining, "looks": box.looks}
    return [f"box {box.name}: no {what}" for what, count in counts.items() if not count]


def of_memory(steady: Mapping[str, Mapping[str, Any]]) -> list[str]:
    grown = {name: found.get("grown_mib") for name, found in steady.items()}
    return [
        f"the {name} has grown by {mib} MiB"
        for name, mib in grown.items()
        if mib is None or mib > MOST_MIB
    ]
