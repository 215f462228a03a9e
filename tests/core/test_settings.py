from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, SecretStr, ValidationError

from shared.settings import (
    ConfigPath,
    Duration,
    Listen,
    ModelId,
    Problems,
    Settings,
    Size,
    read,
)


class Engine(Settings):
    slots: int = Field(default=1, ge=1, le=9)
    key: SecretStr | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = {}


class Everything(Settings):
    wait: Duration = 1.0
    room: Size = 1
    ratio: float = 1.0
    at: Listen = Listen("127.0.0.1", 1)
    on: bool = False
    name: str | None = Field(default=None, min_length=1)
    code: str = Field(default="a", pattern="^a+$")
    file: ConfigPath | None = None
    engines: Mapping[ModelId, Engine] = {}
    lists: tuple[Engine, ...] = ()


def parse(text: str, **env: str) -> Everything:
    return read(Everything, text, name="a.yaml", folder=PurePosixPath("/etc/yard"), env=env)


def problems(text: str, **env: str) -> list[str]:
    with pytest.raises(Problems) as caught:
        parse(text, **env)
    assert str(caught.value) == "\n".join(caught.value.lines)
    return list(caught.value.lines)


def problem(text: str, **env: str) -> str:
    (line,) = problems(text, **env)
    return line


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("0.5s", 0.5),
        ("90s", 90.0),
        ("90", 90.0),
        ("1.5", 1.5),
        ("10m", 600.0),
        ("2h", 7200.0),
        ("never", math.inf),
    ],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse(f"wait: {text}").wait == seconds


@pytest.mark.parametrize("text", ["-1s", "5 minutes", "1d", "''", ".inf", "[1]", "null", "1e9"])
def test_what_is_not_a_duration_is_refused_with_examples(text: str) -> None:
    assert problem(f"wait: {text}").startswith("a.yaml:1: wait: must be a duration such as 500ms")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("700MiB", 700 * 2**20),
        ("6GiB", 6 * 2**30),
        ("6GB", 6 * 10**9),
        ("512KiB", 512 * 2**10),
        ("1KB", 1000),
        ("1.5 KiB", 1536),
        ("2TiB", 2 * 2**40),
        ("42", 42),
    ],
)
def test_a_size_is_read_in_bytes(text: str, size: int) -> None:
    assert parse(f"room: {text}").room == size


@pytest.mark.parametrize("text", ["6G", "-1", "lots", "6gib", "{}"])
def test_what_is_not_a_size_is_refused_with_examples(text: str) -> None:
    assert problem(f"room: {text}").startswith("a.yaml:1: room: must be a size such as 700MiB")


@pytest.mark.parametrize("name", ["a", "Qwen/Qwen3-8B", "x:y@z+1.2_3", "0", "a" * 128, "status2"])
def test_a_model_id_may_look_like_those_that_people_use(name: str) -> None:
    assert list(parse(f"engines: {{'{name}': {{}}}}").engines) == [name]


@pytest.mark.parametrize(
    "name",
    ["", "-a", "a b", "a" * 129, "é", "a\\n", "status", "events", "switch"]
    + [f"a/{word}" for word in ("load", "unload", "logs")],
)
def test_a_model_id_that_would_be_taken_for_a_path_or_worse_is_refused(name: str) -> None:
    assert ": a model id " in problem(f'engines: {{"{name}": {{}}}}')


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("127.0.0.1:8090", "127.0.0.1", 8090, True),
        ("127.8.8.8:1", "127.8.8.8", 1, True),
        ("[::1]:8090", "::1", 8090, True),
        ("localhost:0", "localhost", 0, True),
        ("0.0.0.0:80", "0.0.0.0", 80, False),
        ("[::]:80", "::", 80, False),
        ("box1.lan:65535", "box1.lan", 65535, False),
    ],
)
def test_an_address_knows_whether_others_can_reach_it(
    text: str, host: str, port: int, loopback: bool
) -> None:
    listen = Listen.parse(text)
    assert (listen.host, listen.port, listen.loopback) == (host, port, loopback)


@pytest.mark.parametrize(
    "text", ["8090", ":8090", "::1:8090", "[x]:1", "a:65536", "a:-1", "a:", "*:80", "http://a:1"]
)
def test_an_address_without_a_clear_host_and_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be an address and a port"):
        Listen.parse(text)


def test_relative_paths_begin_at_the_folder_of_the_config_file() -> None:
    assert parse("file: ./x.gguf").file == Path("/etc/yard/x.gguf")
    assert parse("file: /srv/x.gguf").file == Path("/srv/x.gguf")
    assert parse("file: '${HOME}/x.gguf'", HOME="/root").file == Path("/root/x.gguf")


@pytest.mark.parametrize("text", ["~/x.gguf", "''"])
def test_a_path_that_a_shell_would_have_to_expand_is_refused(text: str) -> None:
    assert "must be a path; for a home folder write ${HOME}" in problem(f"file: {text}")


def test_a_path_that_is_no_text_is_refused() -> None:
    assert problem("file: [x]") == "a.yaml:1: file: must be a path (got a list)"


def test_scalars_keep_the_text_that_was_written() -> None:
    text = "{args: [010, 1:30, 2024-01-01, =, 0x1F, 1_000], env: {A: off, B: 1.50, C: <<}}"
    engine = parse(f"lists: [{text}]").lists[0]
    assert engine.args == ("010", "1:30", "2024-01-01", "=", "0x1F", "1_000")
    assert engine.env == {"A": "off", "B": "1.50", "C": "<<"}


def test_a_variable_takes_the_value_of_the_environment() -> None:
    read_ = parse("{name: 'a-${A}-${B}', ratio: '${C}', on: '${D}'}", A="1", B="2", C="3", D="yes")
    assert (read_.name, read_.ratio, read_.on) == ("a-1-2", 3.0, True)
    assert parse("code: ${A}a", A="").code == "a"


@pytest.mark.parametrize("env", [{}, {"A": ""}])
def test_a_default_stands_in_for_a_variable_that_is_unset_or_empty(env: dict[str, str]) -> None:
    assert parse("engines: {a: {slots: '${A:-7}'}}", **env).engines["a"].slots == 7
    assert parse("lists: [{env: {X: '${A:-}'}}]", **env).lists[0].env == {"X": ""}


def test_an_unset_variable_is_one_problem_not_two() -> None:
    assert problem("wait: 1\nratio: ${X}") == (
        "a.yaml:2: ratio: the environment variable X is not set, and ${X} has no default"
    )


@pytest.mark.parametrize("text", ["${", "${A", "${1}", "${A-b}", "${A:-${B}}"])
def test_a_variable_that_is_written_wrong_is_never_taken_for_text(text: str) -> None:
    assert "a variable is written ${NAME} or ${NAME:-default}" in problem(
        f"name: '{text}'", A="1", B="1"
    )


def test_every_problem_is_told_at_once_in_the_order_of_the_file() -> None:
    text = """\
wait: soon
engines:
  demo-big:
    slots: 0
    slots: 1
  demo-small: {slots: 10, slott: 1}
ratio: x
lists:
  - slots: 1
  - slots: 1.5
name: ${NAME}
"""
    assert problems(text) == [
        "a.yaml:1: wait: must be a duration such as 500ms, 90s, 10m, 2h or never (got 'soon')",
        "a.yaml:4: engines.demo-big.slots: must be at least 1 (got 0)",
        "a.yaml:5: engines.demo-big.slots: is given twice (first on line 4)",
        "a.yaml:6: engines.demo-small.slots: must be at most 9 (got 10)",
        "a.yaml:6: engines.demo-small.slott: unknown key (did you mean slots?)",
        "a.yaml:7: ratio: must be a number (got 'x')",
        "a.yaml:10: lists[1].slots: must be a whole number (got 1.5)",
        "a.yaml:11: name: the environment variable NAME is not set, and ${NAME} has no default",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("on: 2", "on: must be true or false (got 2)"),
        ("on:", "on: must be true or false (got nothing)"),
        ("name: ''", "name: must not be empty"),
        ("name: {}", "name: must be text (got a mapping)"),
        ("lists: a", "lists: must be a list (got 'a')"),
        ("engines: a", "engines: must be a mapping (got 'a')"),
        ("engines: {a: [1]}", "engines.a: must be a mapping (got a list)"),
        ("code: b", "code: is not valid (got 'b')"),
        ("ratio: []", "ratio: must be a number (got a list)"),
        ("zzz: 1", "zzz: unknown key"),
        ("lists: [{slot: 1}]", "lists[0].slot: unknown key (did you mean slots?)"),
        ('"a\\nb": 1', "'a\\nb': unknown key"),
        ("[1]", "must be a mapping (got a list)"),
        ("text", "must be a mapping (got 'text')"),
    ],
)
def test_a_problem_is_told_in_words_for_people(text: str, said: str) -> None:
    assert problem(text) == f"a.yaml:1: {said}"


def test_a_secret_is_never_repeated() -> None:
    assert problem("lists: [{key: [hunter2]}]") == "a.yaml:1: lists[0].key: must be text"
    assert "hunter2" not in problem("ratio: http://me:hunter2@box")


def test_a_long_value_is_cut() -> None:
    assert len(problem(f"ratio: {'x' * 1000}")) < 120


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("wait: 1\nroom: [1\nratio: 2", "a.yaml:3: is not valid YAML: while parsing a flow"),
        ("wait: 1\n\troom: 1", "a.yaml:2: is not valid YAML: while scanning"),
        ("wait: 1\nname: \x00", "a.yaml:2: is not valid YAML: special characters"),
        ("wait: *nobody", "a.yaml:1: is not valid YAML: found undefined alias"),
        ("wait: 1\n---\nwait: 2", "a.yaml:2: is not valid YAML: expected a single document"),
        ('name: "\\U00110000"', "a.yaml:1: is not valid YAML: an escape such as"),
        ("lists: &a [*a]", "a.yaml:1: is not valid YAML: it is nested too deeply, or an alias"),
        ("[" * 1000, "a.yaml:1: is not valid YAML: it is nested too deeply"),
        ("wait: 1\nname: !!python/name:os.system x", "a.yaml:2: name: the YAML tag !!python/name"),
        ("? [a]\n: 1", "a.yaml:1: a key must be plain text"),
        ("wait: 1\n<<: 3", "a.yaml:2: << takes a mapping, or a list of mappings"),
    ],
)
def test_text_that_is_not_plain_yaml_is_a_problem_with_its_line(text: str, said: str) -> None:
    assert problem(text).startswith(said)


def test_an_empty_file_says_nothing() -> None:
    assert parse("") == parse("# nothing\n") == Everything()


def test_merged_mappings_give_what_is_not_written_beside_them() -> None:
    text = """\
engines:
  a: &a {slots: 2, args: [x]}
  b: &b {slots: 3, env: {E: f}}
  c: {slots: 4, <<: *a}
  d: {<<: [*a, *b]}
  e: *a
"""
    engines = parse(text).engines
    assert engines["c"] == Engine(slots=4, args=("x",))
    assert engines["d"] == Engine(slots=2, args=("x",), env={"E": "f"})
    assert engines["e"] == engines["a"]


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parse("").wait = 2.0


def test_settings_can_be_made_without_a_file() -> None:
    assert Everything(at=Listen("::1", 2)).at == Listen("::1", 2)
    assert Everything(wait=math.inf, room=2**30).wait == math.inf
    assert Everything(file=Path("x")).file == Path("x")


WORDS = st.sampled_from(
    ["wait", "engines", "lists", "slots", "args", "<<", "key", "${A}", "${", "1", "", "a: b"]
)
TREES = st.recursive(
    WORDS | st.text(max_size=5) | st.integers() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=10,
)


def _read_or_refuse(text: str) -> None:
    lines: tuple[str, ...] = ()
    try:
        parse(text)
    except Problems as refused:
        lines = refused.lines
    assert all(re.fullmatch(r"a\.yaml:[1-9][0-9]*: .+", line) for line in lines)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="ab:-[]{}&*!|>?<'\"\\U0#%@`,${}~\n\t \x00é", max_size=40))
def test_no_text_breaks_the_reader(text: str) -> None:
    _read_or_refuse(text)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(WORDS, TREES, max_size=5))
def test_no_document_breaks_the_reader(document: dict[str, Any]) -> None:
    _read_or_refuse(yaml.safe_dump(document))


def test_an_address_is_written_as_it_was_read() -> None:
    for text in ("127.0.0.1:8090", "[::1]:8090", "localhost:80"):
        assert str(Listen.parse(text)) == text
