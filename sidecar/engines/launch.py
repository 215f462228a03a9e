"""What every preset makes of a model's config: one launch, ready to be spawned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sidecar.config import ModelConfig


@dataclass(frozen=True, slots=True)
class Given:
    """What the sidecar chooses for one launch."""

    context: int  # tokens that one request may use
    port: int  # on 127.0.0.1
    key: str  # that the engine is to expect as Bearer
    env: Mapping[str, str]  # beside the sidecar's own

    def arguments(self, model: ModelConfig, texts: Iterable[str]) -> list[str]:
        """As they stand in the config, with the words in braces filled in."""
        return [fill(text, self._words(model)) for text in texts]

    def environment(self, model: ModelConfig) -> dict[str, str]:
        """The same of `env`, where the key may stand, too: `ps` does not show it there."""
        words = {**self._words(model), "{key}": self.key}
        return {name: fill(value, words) for name, value in self.env.items()}

    def _words(self, model: ModelConfig) -> dict[str, str]:
        path = str(model.path or "")
        return {"{port}": str(self.port), "{path}": path, "{model}": model.served_name}


def fill(text: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text


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
    health: str = "/health"  # 2xx: it can serve
    reports: bool = False  # in its log, how far its load is and that it can serve
    stop_command: Sequence[str] = ()  # before the polite signal

    @property
    def elsewhere(self) -> bool:
        """An engine with a command of its own to stop it (`docker stop`) need not be a child of
        ours: its port is taken for its own."""
        return bool(self.stop_command)
