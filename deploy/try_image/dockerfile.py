"""Reads a Dockerfile and a .dockerignore, as far as ours go.

Rule: what it does not know is an error, never skipped; it runs nothing.
"""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

# What a container engine gives to every process, and so an image without ENV has it too.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_AS_WRITTEN = ("RUN", "HEALTHCHECK", "ENTRYPOINT", "CMD")  # their variables are not the builder's
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::-([^}]*))?\})")


class Unknown(Exception):
    """Something that this reader does not know."""


@dataclass(frozen=True)
class Config:
    """What an image says of the process that runs in it."""

    env: Mapping[str, str] = field(default_factory=lambda: {"PATH": PATH})
    workdir: str = "/"
    user: str = "0:0"
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    health: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    command: str
    config: Config  # as it is at this step


@dataclass(frozen=True)
class Copy:
    sources: tuple[str, ...]
    target: str
    stage: str | None  # None: from the context


@dataclass(frozen=True)
class Folder:
    """A WORKDIR is made where there is none."""

    path: str


Step = Run | Copy | Folder


@dataclass
class Stage:
    base: str
    name: str
    steps: list[Step] = field(default_factory=list)
    config: Config = Config()


def read(text: str, **arguments: str) -> list[Stage]:
    """The stages, with the build arguments filled in."""
    stages: list[Stage] = []
    known: dict[str, str] = {}
    for word, rest in instructions(text):
        if word == "ARG" and not stages:
            name, _, default = rest.partition("=")
            known[name] = arguments.get(name, default)
        elif word == "FROM":
            base, _, name = filled(rest, known).partition(" AS ")
            stages.append(Stage(base, name))
        else:
            take(stages[-1], word, rest)
    return stages


def instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = [
        line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        word, _, rest = line.partition(" ")
        yield word, rest.strip()


def take(stage: Stage, word: str, rest: str) -> None:
    config = stage.config
    said = rest if word in _AS_WRITTEN else filled(rest, config.env)
    match word:
        case "RUN":
            stage.steps.append(Run(rest, config))
        case "COPY":
            stage.steps.append(copy(said, config.workdir))
        case "WORKDIR":
            stage.steps.append(Folder(said))
            stage.config = replace(config, workdir=said)
        case "ENV":
            stage.config = replace(config, env={**config.env, **pairs(said)})
        case "LABEL":
            stage.config = replace(config, labels={**config.labels, **pairs(said)})
        case "USER":
            stage.config = replace(config, user=said)
        case "EXPOSE":
            stage.config = replace(config, ports=tuple(map(int, said.split())))
        case "HEALTHCHECK":
            stage.config = replace(config, health=argv(said.partition("CMD ")[2]))
        case "ENTRYPOINT":
            stage.config = replace(config, entrypoint=argv(said))
        case "CMD":
            stage.config = replace(config, cmd=argv(said))
        case _:
            raise Unknown(word)


def copy(said: str, workdir: str) -> Copy:
    words = shlex.split(said)
    stage = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else None
    *sources, target = words
    folder = "/" if target.endswith("/") else ""
    return Copy(tuple(sources), f"{PurePosixPath(workdir, target)}{folder}", stage)


def filled(text: str, known: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in known and match[3] is None:
            raise Unknown(f"${name}")
        return known.get(name) or match[3] or ""

    return _VARIABLE.sub(value, text)


def pairs(text: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in shlex.split(text))


def argv(text: str) -> tuple[str, ...]:
    """The form that needs no shell; the other one has no place in an image that is stopped by
    signals."""
    try:
        return tuple(json.loads(text))
    except ValueError:
        raise Unknown(f"a command for a shell: {text}") from None


def sent(paths: Iterable[str], dockerignore: str) -> list[str]:
    """Which files of the context reach the builder: of all patterns that match a path or one of
    its folders, the last one decides."""
    patterns = [line for line in dockerignore.splitlines() if line and not line.startswith("#")]
    return [path for path in paths if not ignored(path, patterns)]


def ignored(path: str, patterns: Iterable[str]) -> bool:
    verdict = False
    for pattern in patterns:
        if matches(path, pattern.removeprefix("!")):
            verdict = not pattern.startswith("!")
    return verdict


def matches(path: str, pattern: str) -> bool:
    """A star stops at a slash, two do not."""
    anywhere = pattern.startswith("**/")
    parts = PurePosixPath(pattern.removeprefix("**/")).parts
    names = PurePosixPath(path).parts
    starts = range(len(names)) if anywhere else (0,)
    return any(
        len(names) >= start + len(parts) and all(map(fnmatch.fnmatchcase, names[start:], parts))
        for start in starts
    )
