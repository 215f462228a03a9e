"""The table of `machine.py` as a picture, for the documentation.

Rule: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

from sidecar.machine import ON_FACT, ON_STATE


def phase_diagram() -> str:
    """The table as a Mermaid diagram, for the documentation."""
    lines = ["stateDiagram-v2", "    [*] --> idle"]
    lines += [
        f"    {phase} --> {target}: {fact.name.lower().replace('_', ' ')}"
        for (phase, fact), target in ON_FACT.items()
        if phase is not target
    ]
    lines += [
        f"    {phase} --> {target}: none in flight" for (phase, _), target in ON_STATE.items()
    ]
    return "\n".join(lines) + "\n"
