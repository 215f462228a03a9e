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
from sidecar.launches import Launched
from sidecar.memory import Bytes, Gpu, gpu, on_gpus
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
        known, seen = self._known[model], self.shown(model, booking, there)
        env = {**seen, **known.config.env, MARK: self.mark(id)}
        given = Given(known.context, port, self._folder.key(id), env)
        return PRESETS[known.facts.engine](known.config, given)

    def digest(self, model: str) -> str:
        """Of what an engine is started for. Not of its argv: a newer sidecar may start the same
        with other words, and need not load it anew."""
        known = self._known[model]
        told = [known.digest, known.config.served_name, known.config.stop_command]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def shown(self, model: str, booking: Bytes, there: Sequence[Gpu]) -> dict[str, str]:
        """The variables that tell it which GPUs are its own."""
        return gpus.visible(booking, there, on_host=self._known[model].model.need.on_host)

    def is_same(self, model: str, launched: Launched, there: Sequence[Gpu]) -> bool:
        """Whether it was started for what would be started now, on the GPUs that its booking means
        now. Of GPUs that are not seen at this moment nothing can be said: it is left alone."""
        if launched.digest != self.digest(model):
            return False
        if not on_gpus(launched.booking).keys() <= {gpu(it.index) for it in there}:
            return True
        now = self.shown(model, launched.booking, there)
        return all(now.get(name, was) == was for name, was in launched.shown.items())
