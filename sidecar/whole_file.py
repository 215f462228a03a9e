"""Small files that are replaced whole: whoever reads one finds the old text or the new one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import structlog
from pydantic import TypeAdapter

T = TypeVar("T")

log = structlog.get_logger()


def read(path: Path, page: TypeAdapter[T], otherwise: str) -> T | None:
    """None if there is none, or none that can be read: then `otherwise` is logged with the why."""
    try:
        return page.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning(otherwise, error=str(error).partition("\n")[0])
        return None


def write(path: Path, text: bytes) -> None:
    """For its owner only. Not synced: what these files tell need not outlive a power cut.
    OSError if it cannot be written."""
    new = path.with_suffix(".new")
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "wb") as page:
        os.fchmod(file, 0o600)  # one that was left there may be anybody's
        page.write(text)
    os.replace(new, path)
