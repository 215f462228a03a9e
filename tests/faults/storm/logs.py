"""What programs have written down: no key, no prompt, and no traceback of theirs."""

from collections.abc import Iterator
from pathlib import Path

from tests.faults.storm.clients import NONCE
from tests.faults.storm.seat import KEY
from tests.keys import secret

SECRETS = (secret(KEY).encode(), f"{NONCE}-".encode())
TRACEBACK = b"Traceback (most recent call last)"
AROUND = 1500  # bytes that are shown


def leaks(said: bytes) -> list[str]:
    return [secret.decode() for secret in SECRETS if secret in said]


def wrong(folder: Path) -> Iterator[tuple[str, str]]:
    """What is wrong, and where. Configs alone hold keys."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix == ".yaml":
            continue
        said = path.read_bytes()
        for found in leaks(said):
            yield "a secret in a file", f"{path}: {found}"
        if path.name.startswith("program-") and TRACEBACK in said:
            at = said.index(TRACEBACK)
            yield "a traceback", f"{path}: {said[at : at + AROUND].decode(errors='replace')}"
