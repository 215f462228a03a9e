"""Which engines this box has, for whoever comes after a sidecar that was killed: the next sidecar,
or the guard.

One small JSON file in the state folder, replaced whole at each start, readiness and end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from sidecar.identity import Identity
from sidecar.memory import Bytes
from sidecar.whole_file import read, write


@dataclass(frozen=True, slots=True)
class Launched:
    """One engine process. Its key stands nowhere: it is made anew of `id`."""

    id: str  # of the launch: names its log, its FIFO and its mark
    process: Identity
    port: int
    booking: Bytes
    digest: str  # of what it was started for (launcher.py)
    shown: Mapping[str, str]  # the variables that told it which GPUs are its own
    serves: bool = False  # it was ready, and nobody has told it to go
    stop_command: tuple[str, ...] = ()  # before the polite signal


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

    def left(self) -> Mapping[str, Launched]:
        """By model: those that are written down, of an earlier sidecar at first."""
        return dict(self._now)

    def began(self, model: str, launched: Launched) -> None:
        self._note({**self._now, model: launched})

    def serves(self, model: str, serves: bool) -> None:
        """Whether it may be taken over. Of one that is not written down there is nothing to say."""
        if model in self._now:
            self._note({**self._now, model: replace(self._now[model], serves=serves)})

    def ended(self, model: str) -> None:
        self._note({other: it for other, it in self._now.items() if other != model})

    def _note(self, now: dict[str, Launched]) -> None:
        if now == self._now:
            return
        self._now = now
        try:
            write(self._path, _PAGE.dump_json(_Page(launches=now), indent=1))
            self.trouble = None
        except OSError as error:
            self.trouble = f"which engines run cannot be written down: {error.strerror or error}"

    def _read(self) -> Mapping[str, Launched]:
        page = read(self._path, _PAGE, "which engines ran cannot be read: none is taken over")
        return page.launches if page else {}
