"""`engine: embedded`: llama.cpp's server from the xllamacpp wheel, as a process of its own."""

from __future__ import annotations

import sys

from sidecar.config import ModelConfig
from sidecar.engines.launch import Given, Launch


def launch(model: ModelConfig, given: Given) -> Launch:
    argv = [sys.executable, "-m", "sidecar.engines.embedded_server"]
    argv += ["--model", str(model.path), "--alias", model.served_name, "--port", str(given.port)]
    argv += ["--context", str(given.context), "--slots", str(model.slots)]
    argv += given.arguments(model, model.args)
    return Launch(
        argv=argv,
        env={**given.environment(model), "SWAPYARD_ENGINE_KEY": given.key},
        port=given.port,
        key=given.key,
        silence=model.silence_timeout,
        file=model.path,
        fifo=True,
        reports=True,
    )
