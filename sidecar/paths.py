"""Which model and which of its engine's paths a URL means.

Rule: model ids are looked up, never joined into a path; only inference paths reach an engine, and
one at which it can be looked.
"""

from __future__ import annotations

from collections.abc import Iterable


def split(path: str, models: Iterable[str]) -> tuple[str, str] | None:
    """`Qwen/Qwen3-8B/v1/embeddings` -> (`Qwen/Qwen3-8B`, `v1/embeddings`), by the longest id
    that fits; None if there is no such model."""
    fitting = [model for model in models if path.startswith(f"{model}/")]
    if not fitting:
        return None
    model = max(fitting, key=len)
    return model, path[len(model) + 1 :]


SLOTS = "slots"


def is_look(method: str, path: str) -> bool:
    """Whether it only asks how an engine is: that is no request, and takes none of its slots."""
    return method == "GET" and path == SLOTS


def is_inference(path: str) -> bool:
    """What else an engine serves is for operators, not for clients."""
    parts = path.split("/")
    return parts[0] == "v1" and len(parts) > 1 and not {"", ".", ".."} & set(parts)
