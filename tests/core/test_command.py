from __future__ import annotations

from pathlib import Path, PurePosixPath

from shared.settings import read
from sidecar.config import ModelConfig, SidecarConfig
from sidecar.engines.command import launch
from sidecar.engines.launch import Given, Launch

KEY = "0123abcd"


def model(text: str) -> ModelConfig:
    yaml = f"models: {{org/big: {{engine: command, {text}}}}}"
    config = read(SidecarConfig, yaml, name="s.yaml", folder=PurePosixPath("/etc/y"), env={})
    return config.models["org/big"]


def launched(text: str, **env: str) -> Launch:
    return launch(model(text), Given(4096, 4711, KEY, env))


def test_what_the_sidecar_chooses_is_filled_in_anywhere_inside_an_argument() -> None:
    big = launched('path: ./w.gguf, command: [prog, "-l=:{port}", "{path}"], args: ["{model}"]')
    assert big.argv == ["prog", "-l=:4711", "/etc/y/w.gguf", "org/big"]
    assert (big.port, big.file) == (4711, Path("/etc/y/w.gguf"))


def test_a_program_without_a_file_gets_an_empty_path() -> None:
    big = launched('command: [prog, "--file={path}"]')
    assert big.argv == ["prog", "--file="]
    assert big.file is None


def test_an_engine_is_told_its_served_name() -> None:
    assert launched('command: [prog, "{model}"], served_name: big').argv == ["prog", "big"]


def test_the_key_reaches_an_engine_by_its_environment_only() -> None:
    big = launched("command: [prog, serve]", TOKEN="{key}", ADDRESS=":{port}", PLAIN="x")
    assert big.env == {"TOKEN": KEY, "ADDRESS": ":4711", "PLAIN": "x"}
    assert not any(KEY in argument for argument in big.argv)
    assert big.key == KEY


def test_a_program_is_asked_for_its_health_and_its_silence_is_limited() -> None:
    big = launched("command: [prog], health: /ready, silence_timeout: 7s")
    assert (big.health, big.silence, big.fifo, big.reports) == ("/ready", 7.0, False, False)


def test_only_an_engine_with_a_stop_command_may_live_elsewhere() -> None:
    assert not launched("command: [prog]").elsewhere
    docker = launched('command: [docker, run], stop_command: [docker, stop, "x{port}"]')
    assert docker.stop_command == ["docker", "stop", "x4711"]
    assert docker.elsewhere
