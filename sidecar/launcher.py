"""Makes launches: a model's config, and what this sidecar chooses for one engine of it.

Rule: the same model, id, port and GPUs make the same launch, today and in the next sidecar.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from sidecar import gpus
from sidecar.catalogue import Known
from sidecar.engines import command, embedded, llama_cpp
from sidecar.engines.launch import Given, Launch
from sidecar.memory import Bytes, Gpu
from sidecar.state import MARK, StateFolder

PRESETS = {
    "command": command.launch,
    "embedded": embedded.launch,
    "llama.cpp": llama_cpp.launch,
}


class Launcher:
    def __init__(self, known: Mapping[str, Known], folder: StateFolder) -> None:
        self._known = known
        self._folder = folder

    def knows(self, model: str) -> bool:
        return model in self._known

    def mark(self, id: str) -> str:
        """In the environment of that launch, and so of all its descendants."""
        return self._folder.mark(id)

    def launch(
        self, model: str, id: str, port: int, booking: Bytes, there: Sequence[Gpu]
    ) -> Launch:
        """`booking` says which of the GPUs that are `there` it is to see."""
        known, seen = self._known[model], self._visible(model, booking, there)
        env = {**seen, **known.config.env, MARK: self.mark(id)}
        given = Given(known.context, port, self._folder.key(id), env)
        return PRESETS[known.facts.engine](known.config, given)

    def digest(self, model: str, booking: Bytes, there: Sequence[Gpu]) -> str:
        """Of what an engine is started for. Not of its argv: a newer sidecar may start the same
        with other words, and need not load it anew."""
        known = self._known[model]
        config, seen = known.config, self._visible(model, booking, there)
        told = [known.digest, config.served_name, config.stop_command, sorted(seen.items())]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def _visible(self, model: str, booking: Bytes, there: Sequence[Gpu]) -> dict[str, str]:
        return gpus.visible(booking, there, on_host=self._known[model].model.need.on_host)
