"""Which engines this box has, for whoever comes after a sidecar that was killed: the next sidecar,
or the guard.

One small JSON file in the state folder, replaced whole at each start, readiness and end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import structlog
from pydantic import TypeAdapter

from sidecar.identity import Identity
from sidecar.memory import Bytes
from sidecar.replace import replace

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Launched:
    """One engine process. Its key stands nowhere: it is made anew of `id`."""

    id: str  # of the launch: names its log, its FIFO and its mark
    process: Identity
    port: int
    booking: Bytes
    digest: str  # of how it was started
    serves: bool = False  # it was ready, and nobody has told it to go


@dataclass(frozen=True, slots=True)
class _Page:
    v: Literal[1] = 1
    launches: Mapping[str, Launched] = field(default_factory=dict)  # by model


_PAGE = TypeAdapter(_Page)


class Launches:
    """`trouble`: why the file could not be written, if so: whoever comes after us finds those
    engines by their marks alone, and can only end them."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "launches.json"
        self._now = dict(self._read())
        self.trouble: str | None = None

    def read(self) -> Mapping[str, Launched]:
        """By model: those that run, or ran when the last sidecar was killed."""
        return dict(self._now)

    def note(self, model: str, launched: Launched | None) -> None:
        """None: it is gone."""
        if self._now.get(model) == launched:
            return
        self._now.pop(model, None)
        if launched is not None:
            self._now[model] = launched
        try:
            replace(self._path, _PAGE.dump_json(_Page(launches=self._now), indent=1))
            self.trouble = None
        except OSError as error:
            self.trouble = error.strerror or str(error)
            log.warning("which engines run cannot be written down", error=self.trouble)

    def _read(self) -> Mapping[str, Launched]:
        try:
            return _PAGE.validate_json(self._path.read_bytes()).launches
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            said = str(error).partition("\n")[0]
            log.warning("which engines ran cannot be read: none is taken over", error=said)
            return {}
