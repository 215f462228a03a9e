"""`engine: command`: any program that speaks OpenAI's protocol on a port that we choose."""

from __future__ import annotations

from sidecar.config import ModelConfig
from sidecar.engines.launch import Launch


def launch(model: ModelConfig, port: int, key: str, env: dict[str, str]) -> Launch:
    words = {"{port}": str(port), "{path}": str(model.path or ""), "{model}": model.served_name}
    return Launch(
        argv=[fill(argument, words) for argument in (*model.command, *model.args)],
        env={name: fill(value, {**words, "{key}": key}) for name, value in env.items()},
        port=port,
        key=key,
        silence=model.silence_timeout,
        file=model.path,
        health=model.health,
        stop_command=[fill(argument, words) for argument in model.stop_command],
    )


def fill(text: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text
