from __future__ import annotations

import math
from pathlib import Path, PurePosixPath

import pytest

from shared.settings import Listen, Problems, read
from sidecar.config import ModelConfig, Scheduling, SidecarConfig


def parse(text: str) -> SidecarConfig:
    return read(SidecarConfig, text, name="sidecar.yaml", folder=PurePosixPath("/etc/y"), env={})


def problems(text: str) -> list[str]:
    with pytest.raises(Problems) as caught:
        parse(text)
    return list(caught.value.lines)


def test_one_file_is_enough_for_a_box() -> None:
    config = parse("models: {tiny: {engine: embedded, path: ./tiny.gguf}}")
    assert config.listen == Listen("127.0.0.1", 8090)
    assert (config.box, config.memory_limit, config.open) == (None, None, False)
    assert config.state_dir == Path("/etc/y/state")
    assert (config.scheduling.patience, config.shutdown_timeout) == (120, 30)
    tiny = config.models["tiny"]
    assert tiny.path == Path("/etc/y/tiny.gguf")
    assert (tiny.served_name, tiny.slots, tiny.gpus, tiny.pinned) == ("tiny", 4, "auto", False)
    assert (tiny.vram, tiny.context_length, tiny.health) == (None, None, "/health")
    assert (tiny.start_timeout, tiny.stall_timeout, tiny.silence_timeout) == (1800, 300, 300)
    assert (tiny.drain_timeout, tiny.stop_timeout) == (600, 10)


def test_every_key_can_be_said() -> None:
    config = parse("""
listen: "[::]:9000"
box: box1
state_dir: /var/lib/swapyard
open: true
memory_limit: 1GiB
scheduling: {patience: 1m, min_resident: 30s, preload: [org/big]}
shutdown_timeout: 5s
models:
  org/big:
    engine: command
    path: ./weights
    args: [--fast]
    command: [prog, "--listen=127.0.0.1:{port}"]
    stop_command: [prog, stop]
    env: {TOKEN: "{key}"}
    health: /ready
    served_name: big
    vram: 6GiB
    gpus: none
    context_length: 131072
    slots: 3
    keep_alive: 10m
    pinned: true
    standby: false
    start_timeout: 1m
    stall_timeout: 2m
    silence_timeout: never
    drain_timeout: 0
    stop_timeout: 1
""")
    assert (config.listen, config.box, config.memory_limit) == (Listen("::", 9000), "box1", 2**30)
    assert config.scheduling == Scheduling(patience=60, min_resident=30, preload=("org/big",))
    assert config.models["org/big"] == ModelConfig(
        engine="command",
        path=Path("/etc/y/weights"),
        args=("--fast",),
        command=("prog", "--listen=127.0.0.1:{port}"),
        stop_command=("prog", "stop"),
        env={"TOKEN": "{key}"},
        health="/ready",
        served_name="big",
        vram=6 * 2**30,
        gpus="none",
        context_length=131072,
        slots=3,
        keep_alive=600,
        pinned=True,
        start_timeout=60,
        stall_timeout=120,
        silence_timeout=math.inf,
        drain_timeout=0,
        stop_timeout=1,
    )


def test_a_command_serves_more_at_a_time_than_an_embedded_engine() -> None:
    assert parse("models: {a: {engine: command, command: [x]}}").models["a"].slots == 16


def test_an_engine_need_not_be_named_where_llama_cpp_is_meant() -> None:
    tiny = parse("models: {tiny: {path: ./tiny.gguf}}").models["tiny"]
    assert (tiny.engine, tiny.slots) == (None, 4)
    assert parse("models: {a: {engine: llama.cpp, path: x}}").models["a"].slots == 4


def test_a_box_without_models_is_refused() -> None:
    assert problems("") == ["sidecar.yaml:1: models: is required"]
    assert problems("\nmodels: {}") == ["sidecar.yaml:2: models: must not be empty"]


def test_each_engine_gets_what_it_needs_and_every_model_is_told() -> None:
    assert problems("""\
models:
  no-file:
    engine: embedded
  both:
    engine: embedded
    path: x.gguf
    command: [x]
  no-command:
    engine: command
    path: x.gguf
  empty:
    engine: command
    command: []
  neither:
    engine: vllm
    command: [x]
  no-file-of-mine:
    engine: llama.cpp
  none:
    slots: 2
  unsaid:
    path: x.gguf
    command: [x]
""") == [
        "sidecar.yaml:2: models.no-file.path: is required with `engine: embedded`",
        "sidecar.yaml:7: models.both.command: is for `engine: command`; embedded takes `path`"
        " and `args`",
        "sidecar.yaml:8: models.no-command.command: is required with `engine: command`:"
        " the program and its arguments",
        "sidecar.yaml:13: models.empty.command: is required with `engine: command`:"
        " the program and its arguments",
        "sidecar.yaml:15: models.neither.engine: must be one of llama.cpp, embedded, command"
        " (got 'vllm')",
        "sidecar.yaml:17: models.no-file-of-mine.path: is required with `engine: llama.cpp`",
        "sidecar.yaml:19: models.none.path: is required, unless with `engine: command`",
        "sidecar.yaml:23: models.unsaid.command: is for `engine: command`; without `engine`,"
        " a model takes `path` and `args`",
    ]


@pytest.mark.parametrize("field", ["command", "args", "stop_command"])
def test_a_key_never_stands_where_ps_would_show_it(field: str) -> None:
    rest = "" if field == "command" else "    command: [x]\n"
    text = f"""\
models:
  a:
    engine: command
    {field}:
    - prog
    - "--key={{key}}"
{rest}"""
    assert problems(text) == [
        f"sidecar.yaml:6: models.a.{field}[1]: must not hold {{key}}, which `ps` would show to"
        " everyone: pass it in `env`"
    ]


def test_a_health_path_begins_with_a_slash() -> None:
    assert problems("models: {a: {engine: command, command: [x], health: ready}}") == [
        "sidecar.yaml:1: models.a.health: must be a path that begins with / (got 'ready')"
    ]


def test_a_box_is_not_opened_to_others_by_accident() -> None:
    text = "models: {a: {engine: command, command: [x]}}\nlisten: 0.0.0.0:8090"
    (line,) = problems(text)
    assert line.startswith("sidecar.yaml:2: listen: would let other machines in")
    assert parse(text + "\nopen: true").listen.host == "0.0.0.0"
    key = f'{{name: router, sha256: "{"0" * 64}", scopes: [inference, read]}}'
    assert parse(text + f"\nkeys: [{key}]").listen.host == "0.0.0.0"


def test_a_word_in_braces_that_means_nothing_is_a_problem() -> None:
    text = "models: {a: {engine: command, command: [p, '{port}', '{prot}', '{\"json\": 1}']}}"
    assert problems(text) == [
        "sidecar.yaml:1: models.a.command[2]: {prot} is none of {port}, {path}, {model}"
    ]


@pytest.mark.parametrize("engine", ["engine: embedded, ", "engine: llama.cpp, ", ""])
@pytest.mark.parametrize("line", ["health: /up", "stop_command: [docker, stop, x]"])
def test_what_only_a_command_heeds_is_a_problem_elsewhere(engine: str, line: str) -> None:
    (problem,) = problems(f"models: {{a: {{{engine}path: x.gguf, {line}}}}}")
    assert ": is for `engine: command`" in problem


def test_a_standby_is_not_sent_away_by_its_keep_alive() -> None:
    assert problems("models: {x: {path: ./x, keep_alive: 5m, standby: true}}") == [
        "sidecar.yaml:1: models.x.standby: comes back at once when `keep_alive` has sent it away:"
        " choose one (got 'true')"
    ]


def test_a_preload_is_one_of_the_models() -> None:
    assert problems("scheduling: {preload: [x, y, z]}\nmodels: {x: {path: ./x}}") == [
        "sidecar.yaml:2: models: `scheduling.preload` names y, z, which is not here"
    ]


def gpus_of(written: str) -> object:
    return (
        parse(f"models: {{a: {{engine: command, command: [x], gpus: {written}}}}}").models["a"].gpus
    )


def test_a_model_names_its_gpus_by_number_or_by_uuid() -> None:
    assert gpus_of("auto") == "auto"
    assert gpus_of("none") == "none"
    assert gpus_of("2") == 2
    assert gpus_of("[1, 0]") == (1, 0)
    assert gpus_of("[GPU-8f7e-01, 0, '0000:03:00.0']") == ("GPU-8f7e-01", 0, "0000:03:00.0")


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("all", ": must be auto, none, how many, or a list of indexes and UUIDs (got 'all')"),
        ("1.5", ": must be auto, none, how many, or a list of indexes and UUIDs (got 1.5)"),
        ("{a: b}", ": must be auto, none, how many, or a list of indexes and UUIDs"),
        ("0", ": must be from 1 to 16, or none (got 0)"),
        ("-1", ": must be from 1 to 16, or none (got -1)"),
        ("17", ": must be from 1 to 16, or none (got 17)"),
        ("[]", ": must list from 1 to 16 GPUs; for no GPU write none"),
        ("[0, gpu1]", "[1]: must be a GPU's index or UUID, as `GET /gpus` shows them (got 'gpu1')"),
        ("[-1]", "[0]: must be a GPU's index or UUID, as `GET /gpus` shows them (got '-1')"),
        ("[2, 0, 2]", "[2]: is listed twice (got '2')"),
        (
            f"[{', '.join(map(str, range(17)))}]",
            ": must list from 1 to 16 GPUs; for no GPU write none",
        ),
    ],
)
def test_gpus_that_cannot_be_meant_are_a_problem(written: str, problem: str) -> None:
    text = f"models: {{a: {{engine: command, command: [x], gpus: {written}}}}}"
    assert problems(text) == [f"sidecar.yaml:1: models.a.gpus{problem}"]


def test_gpus_are_not_for_an_engine_that_runs_on_the_processor() -> None:
    assert problems("models: {a: {engine: embedded, path: x, gpus: [0]}}") == [
        "sidecar.yaml:1: models.a.gpus: is for engines on a GPU; `engine: embedded` runs on the"
        " processor"
    ]
