"""What a GGUF file says of itself, read with the `gguf` package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sidecar.estimate import Shape


def read(path: Path) -> Shape | None:
    """None if there is no such file, or if it is not a GGUF file that we understand: the engine
    will say so when it is started."""
    from gguf import GGUFReader, LlamaFileType  # slow to import (numpy), and not always needed

    try:
        fields = GGUFReader(path).fields
        kind = fields["general.architecture"].contents()

        def value(name: str, default: Any = None) -> Any:
            field = fields.get(f"{kind}.{name}")
            return default if field is None else field.contents()

        heads = value("attention.head_count")
        width = value("embedding_length") // heads if heads else 0  # without attention: Mamba
        kv_heads = value("attention.head_count_kv", heads)
        file_type = fields.get("general.file_type")
        return Shape(
            # A hybrid model has a list of them: one number per layer.
            kv_heads=sum(kv_heads)
            if isinstance(kv_heads, list)
            else kv_heads * value("block_count"),
            key_length=value("attention.key_length", width),
            value_length=value("attention.value_length", width),
            context_length=value("context_length"),
            quantisation=_short(LlamaFileType(file_type.contents())) if file_type else None,
        )
    except (OSError, ArithmeticError, LookupError, TypeError, ValueError):
        return None


def _short(file_type: Any) -> str:
    """MOSTLY_Q4_K_M -> Q4_K_M"""
    return str(file_type.name).removeprefix("MOSTLY_").removeprefix("ALL_")
