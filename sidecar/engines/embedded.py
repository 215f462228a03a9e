"""`engine: embedded`: llama.cpp's server from the xllamacpp wheel, as a process of its own."""

from __future__ import annotations

import sys

from sidecar.config import ModelConfig
from sidecar.engines.launch import Launch


def launch(model: ModelConfig, context: int, port: int, key: str, env: dict[str, str]) -> Launch:
    argv = [sys.executable, "-m", "sidecar.engines.embedded_server"]
    argv += ["--model", str(model.path), "--alias", model.served_name, "--port", str(port)]
    argv += ["--context", str(context), "--slots", str(model.slots), *model.args]
    return Launch(
        argv=argv,
        env={**env, "SWAPYARD_ENGINE_KEY": key},
        port=port,
        key=key,
        silence=model.silence_timeout,
        file=model.path,
        fifo=True,
    )
