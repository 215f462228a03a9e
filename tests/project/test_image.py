"""The Dockerfile agrees with the project and its configs, and what reads it by hand reads it."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pytest
import yaml

from deploy.try_image.dockerfile import Copy, Run, Unknown, argv, filled, ignored, read, sent

ROOT = Path(__file__).resolve().parents[2]
STAGES = read((ROOT / "Dockerfile").read_text())
IMAGE = STAGES[-1]


def test_the_image_is_for_nobody_in_particular_and_certainly_not_for_root() -> None:
    uid, gid = IMAGE.config.user.split(":")
    assert uid == gid
    assert int(uid) >= 10000
    commands = " ".join(step.command for step in IMAGE.steps if isinstance(step, Run))
    assert f"useradd --uid {uid} --gid {gid} --home-dir /state" in commands


def test_the_image_says_what_it_is() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "org.opencontainers.image."
    assert IMAGE.config.labels == {
        f"{prefix}title": project["name"],
        f"{prefix}description": project["description"],
        f"{prefix}version": project["version"],
        f"{prefix}licenses": project["license"],
    }


def test_the_image_finds_its_python_first_and_a_llama_server_of_its_base_last() -> None:
    first, *_, last = IMAGE.config.env["PATH"].split(":")
    assert (first, last) == ("/opt/venv/bin", "/app")


def test_the_image_listens_where_the_configs_say() -> None:
    configs = [yaml.safe_load(file.read_text()) for file in (ROOT / "deploy/home").iterdir()]
    assert set(IMAGE.config.ports) == {int(said["listen"].split(":")[1]) for said in configs}
    asked = [urlsplit(url) for url in IMAGE.config.health[2:]]
    assert {url.port for url in asked} == set(IMAGE.config.ports)
    assert {url.path for url in asked} == {"/healthz"}


def test_the_base_is_an_argument() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    other = services["nvidia"]["build"]["args"]
    assert {stage.base for stage in STAGES} == {"debian:bookworm-slim"}
    stages = read((ROOT / "Dockerfile").read_text(), **other)
    assert {stage.base for stage in stages} == {"ghcr.io/ggml-org/llama.cpp:server-cuda"}


def test_what_is_copied_is_sent_to_the_builder_and_nothing_else_is() -> None:
    argv = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    ignore = (ROOT / ".dockerignore").read_text()
    secrets = [".env", "models/mine.gguf", ".git/config", "router/__pycache__/app.pyc"]
    arrived = sent([*listed.stdout.split(), *secrets], ignore)
    copied = [
        source
        for stage in STAGES
        for step in stage.steps
        if isinstance(step, Copy) and step.stage is None
        for source in step.sources
    ]
    assert [name for name in copied if not at(name, arrived)] == []
    assert [name for name in arrived if not any(at(source, [name]) for source in copied)] == []


def at(source: str, names: list[str]) -> bool:
    return any(PurePosixPath(name).is_relative_to(source) for name in names)


# The reader of Dockerfiles.


def test_a_dockerfile_is_read_step_by_step() -> None:
    first, last = read(
        "ARG A=x\nFROM ${A} AS one\n# no\nRUN a \\\n    # no\n    && b $HOME\nFROM y\n"
        "ENV P=1:$PATH\nWORKDIR /w\nCOPY --from=one /o ./\nCOPY f g /t/\nUSER 1:1\n"
        'HEALTHCHECK --timeout=1s CMD ["h"]\nENTRYPOINT ["e", "$P"]\nEXPOSE 1 2\n',
        A="z",
    )
    assert (first.base, first.name, last.base) == ("z", "one", "y")
    assert [step.command for step in first.steps if isinstance(step, Run)] == ["a && b $HOME"]
    assert [step for step in last.steps if isinstance(step, Copy)] == [
        Copy(("/o",), "/w/", "one"),
        Copy(("f", "g"), "/t/", None),
    ]
    assert last.config.env["P"].startswith("1:/usr")
    assert (last.config.user, last.config.workdir, last.config.ports) == ("1:1", "/w", (1, 2))
    assert last.config.health == ("h",)


def test_what_the_reader_does_not_know_is_an_error() -> None:
    for line in ("ONBUILD RUN x", "CMD sleep 9", "ENV A=$UNKNOWN"):
        with pytest.raises(Unknown):
            read(f"FROM x\n{line}\n")
    assert argv('["a"]') == ("a",)
    assert filled("${A:-b}", {}) == "b"


def test_of_all_patterns_that_match_the_last_one_decides() -> None:
    patterns = ["*", "!keep", "!a/b.py", "**/cache"]
    kept = [
        n for n in ("keep/x", "a/b.py", "a/c.py", "keep/cache/y", "z") if not ignored(n, patterns)
    ]
    assert kept == ["keep/x", "a/b.py"]
