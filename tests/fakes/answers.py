"""What the fake engine says: numbered tokens, or with `--echo` tokens that depend on the request.

Rule: whoever asked can work out each token of an echo, and nobody else's request has the same ones.
Standard library only: the engine program imports it.
"""

import json
from collections.abc import Callable
from typing import Any

Words = Callable[[int], str]  # the token of that number, counted from 0


def counted(number: int) -> str:
    return f"tok{number}"


def words(body: dict[str, Any]) -> Words:
    """Of the model and what was said to it, of a chat or of a completion."""
    import zlib  # only those that echo need it

    said = json.dumps([body.get("model"), body.get("messages", body.get("prompt"))])
    return lambda number: f"{zlib.crc32(f'{number} {said}'.encode()):08x}"


def piece(words: Words, number: int) -> str:
    """What is sent as token `number`, counted from 1."""
    return words(0) if number == 1 else f" {words(number - 1)}"


def whole(words: Words, tokens: int) -> str:
    return " ".join(words(number) for number in range(tokens))
