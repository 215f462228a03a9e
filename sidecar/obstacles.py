"""Why a launch could not even begin: what a look at the files tells, before anybody leaves."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from sidecar.config import ModelConfig
from sidecar.engines.launch import Launch
from sidecar.machine import Exit


def of_model(config: ModelConfig) -> Exit | None:
    program = config.command[0] if config.command else ""
    return _missing(config.path, program, config.env)


def of_launch(launch: Launch, env: Mapping[str, str]) -> Exit | None:
    return _missing(launch.file, launch.argv[0], env)


def _missing(file: Path | None, program: str, env: Mapping[str, str]) -> Exit | None:
    if file is not None and not file.is_file():
        return Exit("file_missing", f"there is no file {file}")
    found = not program or "{" in program or shutil.which(program, path=env.get("PATH"))
    return None if found else Exit("file_missing", f"there is no program {program}")
