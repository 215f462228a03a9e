"""What every preset makes of a model's config: one launch, ready to be spawned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Given:
    """What the sidecar chooses for one launch."""

    context: int  # tokens that one request may use
    port: int  # on 127.0.0.1
    key: str  # that the engine is to expect as Bearer
    env: Mapping[str, str]  # beside the sidecar's own


@dataclass(frozen=True, slots=True)
class Launch:
    argv: Sequence[str]
    env: Mapping[str, str]  # beside the sidecar's own
    port: int  # on 127.0.0.1
    key: str  # that the engine expects as Bearer
    silence: float  # seconds without a byte while it answers, after which it counts as stalled
    file: Path | None = None  # without which there is no use in starting
    fifo: bool = False  # its stdin is a FIFO that it holds open itself
    stop_line: bytes = b""  # into the FIFO of a ready engine, before the polite signal
    health: str | None = None  # polled until 2xx; None: the engine reports in its log
    stop_command: Sequence[str] = ()  # before the polite signal

    @property
    def elsewhere(self) -> bool:
        """An engine with a command of its own to stop it (`docker stop`) need not be a child of
        ours: its port is taken for its own."""
        return bool(self.stop_command)
