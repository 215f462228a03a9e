"""Why a launch could not even begin: what a look at the files tells, before anybody leaves."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from sidecar.catalogue import Known
from sidecar.engines import llama_cpp
from sidecar.engines.launch import Launch
from sidecar.failure import Exit


def of_model(known: Known) -> Exit | None:
    return _missing(known.config.path, _program(known), known.config.env)


def of_launch(launch: Launch, env: Mapping[str, str]) -> Exit | None:
    return _missing(launch.file, launch.argv[0], env)


def _program(known: Known) -> str:
    """Empty for one that is always there: `embedded` is this Python."""
    if known.facts.engine == "llama.cpp":
        return llama_cpp.PROGRAM
    return known.config.command[0] if known.config.command else ""


def _missing(file: Path | None, program: str, env: Mapping[str, str]) -> Exit | None:
    if file is not None and not file.is_file():
        return Exit("file_missing", f"there is no file {file}")
    found = not program or "{" in program or shutil.which(program, path=env.get("PATH"))
    return None if found else Exit("file_missing", f"there is no program {program}")
