"""The switches of one box, each one story from the first drain to the readiness of its model.

Rule: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from shared.status import LEAVING, EtaSource, Phase
from sidecar.engine import Engine
from sidecar.estimate import Promise


@dataclass(frozen=True, slots=True)
class Switch:
    id: str
    to: str
    from_: tuple[str, ...]
    began: float
    promise: Promise = field(default_factory=Promise)  # when it will be done


class Switches(dict[str, Switch]):
    """Those under way, by the model that they are for. `begin` and `end` tell what is news."""

    def __init__(self, boot: str) -> None:
        super().__init__()
        self._boot = boot
        self._begun = 0

    def begin(self, to: str, from_: tuple[str, ...], now: float) -> bool:
        if to in self:
            return self._widen(self[to], from_)
        self._begun += 1
        self[to] = Switch(f"s-{self._boot}-{self._begun}", to, from_, now)
        return True

    def _widen(self, switch: Switch, from_: tuple[str, ...]) -> bool:
        """More must leave than was thought."""
        more = tuple(name for name in from_ if name not in switch.from_)
        if more:
            self[switch.to] = replace(switch, from_=switch.from_ + more)
        return bool(more)

    def end(
        self, claimed: Collection[str], wanted: Collection[str], engines: Mapping[str, Engine]
    ) -> bool:
        """A switch whose load has ended, or whose claim was dropped, is none any more; but one
        that is tried again goes on."""
        over = [
            to
            for to in self
            if to not in claimed
            and engines[to].machine.phase is not Phase.STARTING
            and not (engines[to].again and to in wanted)
        ]
        for to in over:
            del self[to]
            engines[to].again = False  # the next that is asked for begins a story of its own
        return bool(over)

    def revise(self, engines: Mapping[str, Engine], now: float) -> None:
        """Say anew when each of them will be done."""
        for switch in self.values():
            switch.promise.revise(*forecast(switch, engines, now), now)


def forecast(
    switch: Switch, engines: Mapping[str, Engine], now: float
) -> tuple[float | None, EtaSource | None]:
    """When its model will be ready, and from what that is known. How long a drain takes, nobody
    knows."""
    to = engines[switch.to]
    if to.load is not None:
        return to.load.due()
    expected, source = to.history.load_estimate()
    going = [e for id in (*switch.from_, switch.to) if (e := engines[id]).machine.phase in LEAVING]
    drains = any(engine.machine.phase is Phase.SWITCHING for engine in going)
    if expected is None or drains or not going:
        return None, None
    stopped = [engine.machine.since + (engine.history.stop or 0.0) for engine in going]
    return max(now, *stopped) + expected, source
