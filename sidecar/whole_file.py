"""Small files that are replaced whole: whoever reads one finds the old text or the new one."""

from __future__ import annotations

import os
from pathlib import Path


def write(path: Path, text: bytes) -> None:
    """For its owner only. Not synced: what these files tell need not outlive a power cut.
    OSError if it cannot be written."""
    new = path.with_suffix(".new")
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "wb") as page:
        os.fchmod(file, 0o600)  # one that was left there may be anybody's
        page.write(text)
    os.replace(new, path)
