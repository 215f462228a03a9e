"""What a program of ours inherits: the sidecar's environment, but no secret. What an engine needs
of those stands in its `env:`.
"""

from __future__ import annotations

import os

SECRET_WORDS = ("KEY", "SECRET", "TOKEN", "PASSW", "CREDENTIAL")


def inherited() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not any(word in name.upper() for word in SECRET_WORDS)
    }
