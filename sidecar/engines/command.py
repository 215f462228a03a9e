"""`engine: command`: any program that speaks OpenAI's protocol on a port that we choose."""

from __future__ import annotations

from sidecar.config import ModelConfig
from sidecar.engines.launch import Given, Launch


def launch(model: ModelConfig, given: Given) -> Launch:
    path = str(model.path or "")
    words = {"{port}": str(given.port), "{path}": path, "{model}": model.served_name}
    secret = {**words, "{key}": given.key}
    return Launch(
        argv=[fill(argument, words) for argument in (*model.command, *model.args)],
        env={name: fill(value, secret) for name, value in given.env.items()},
        port=given.port,
        key=given.key,
        silence=model.silence_timeout,
        file=model.path,
        health=model.health,
        stop_command=[fill(argument, words) for argument in model.stop_command],
    )


def fill(text: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text
