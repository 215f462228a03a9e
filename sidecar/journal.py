"""The journal: what was measured here, kept over the life of one sidecar.

One small JSON file in the state folder, replaced whole. It holds estimates: one that cannot be
read is passed over with a warning, and measuring begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import structlog
from pydantic import TypeAdapter

from sidecar.estimate import Measured
from sidecar.whole_file import read, write

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Entry:
    """Of one model. `of` tells what was measured: its file, its engine and how that is started."""

    of: str
    measured: Measured


@dataclass(frozen=True, slots=True)
class Page:
    v: Literal[1] = 1
    models: Mapping[str, Entry] = field(default_factory=dict)


_PAGE = TypeAdapter(Page)


class Journal:
    """`digests`: what would be measured now, of each model."""

    def __init__(self, path: Path, digests: Mapping[str, str]) -> None:
        self._path = path
        self._digests = digests

    def read(self) -> dict[str, Measured]:
        """What was measured of the models as they are configured now."""
        kept = self._entries()
        return {
            id: kept[id].measured
            for id, digest in self._digests.items()
            if id in kept and kept[id].of == digest
        }

    def _entries(self) -> Mapping[str, Entry]:
        page = read(self._path, _PAGE, "the journal cannot be read: loads are measured anew")
        return page.models if page else {}

    def write(self, measured: Mapping[str, Measured]) -> None:
        """Not synced: what a power cut takes is measured again."""
        models = {id: Entry(digest, measured[id]) for id, digest in self._digests.items()}
        try:
            write(self._path, _PAGE.dump_json(Page(models=models), indent=1))
        except OSError as error:
            log.warning("the journal cannot be written", error=str(error))
