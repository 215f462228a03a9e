"""`engine: command`: any program that speaks OpenAI's protocol on a port that we choose."""

from __future__ import annotations

from sidecar.config import ModelConfig
from sidecar.engines.launch import Given, Launch


def launch(model: ModelConfig, given: Given) -> Launch:
    return Launch(
        argv=given.arguments(model, (*model.command, *model.args)),
        env=given.environment(model),
        port=given.port,
        key=given.key,
        silence=model.silence_timeout,
        file=model.path,
        health=model.health,
        stop_command=given.arguments(model, model.stop_command),
    )
