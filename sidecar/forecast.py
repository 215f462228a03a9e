"""When a switch will be done, from what its parts took before.

Rule: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

from collections.abc import Mapping

from shared.status import EtaSource, Phase
from sidecar.engine import Engine, Switch

GOING = (Phase.SWITCHING, Phase.STOPPING)


def forecast(
    switch: Switch, engines: Mapping[str, Engine], now: float
) -> tuple[float | None, EtaSource | None]:
    """When its model will be ready, and from what that is known. How long a drain takes, nobody
    knows."""
    to = engines[switch.to]
    if to.load is not None:
        return to.load.due()
    expected, source = to.history.load_estimate()
    going = [e for id in (*switch.from_, switch.to) if (e := engines[id]).machine.phase in GOING]
    drains = any(engine.machine.phase is Phase.SWITCHING for engine in going)
    if expected is None or drains or not going:
        return None, None
    stopped = [engine.machine.since + (engine.history.stop or 0.0) for engine in going]
    return max(now, *stopped) + expected, source
