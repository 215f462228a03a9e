"""What a box shows of itself: its newest Status, to whoever watches.

News goes out at once; counts, expiry and memory a little later, and together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from shared.status import Phase, Status
from shared.watch import Watch
from sidecar.box import Box
from sidecar.memory import Memory
from sidecar.report import report

COALESCE = 0.1  # seconds: in-flight counts, expiry and memory go out at most this often

log = structlog.get_logger()


class Bulletin:
    """`seen`: the newest look at the memory. `entered` is told of each model's new phase."""

    def __init__(
        self, box: Box, seen: Callable[[], Memory], entered: Callable[[str, Phase], None]
    ) -> None:
        self._box = box
        self._seen = seen
        self._entered = entered
        self.status: Watch[Status] = Watch(self._report())
        self._problems: set[str] = set()  # that were logged
        self._later: asyncio.TimerHandle | None = None

    def publish(self) -> None:
        """Show the box as it is now."""
        self._forget_later()
        before = {m.id: m.phase for m in self.status.value.models}
        self._box.seq += 1
        self._box.news = self._box.changed = False
        status = self._report()
        self.status.set(status)
        for problem in sorted(set(status.problems) - self._problems):
            log.warning("problem", problem=problem)
        self._problems = set(status.problems)
        for model in status.models:
            if model.phase is not before[model.id]:
                self._entered(model.id, model.phase)
                self._log_phase(model.id, before[model.id], model.phase)

    def publish_soon(self) -> None:
        """If anything has changed."""
        if self._box.changed and self._later is None:
            self._later = asyncio.get_running_loop().call_later(COALESCE, self.publish)

    def stop(self) -> None:
        """Those who watch see the last Status, and are let go."""
        self._forget_later()
        self.status.close()

    def _forget_later(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None

    def _report(self) -> Status:
        return report(self._box, self._seen(), time.monotonic(), time.time())

    def _log_phase(self, model: str, before: Phase, phase: Phase) -> None:
        engine = self._box.engines[model]
        failure = engine.machine.failure
        tell = log.warning if failure else log.info
        tell(
            "phase",
            model=model,
            was=before,
            phase=phase,
            because=engine.because,
            error=failure.message if failure else None,
        )
