"""A container's first command: makes the keys at the first start, then becomes the program.

    start.py router|sidecar [ARGUMENTS OF THE PROGRAM]

Rule: of a client's key only the hash is kept, so it is shown once, by the program that starts first
and makes it. The key between the two programs is kept, because the router has to show it, and is
never printed.
A file that is absent is made anew: to get another key, remove its file and start again. What the
environment says already is taken from there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

KEYS = Path(os.environ.get("SWAPYARD_STATE", "/state")) / "keys"
HELLO = '{"model": "demo-small", "stream": true, "messages": [{"role": "user", "content": "Hi"}]}'


def main() -> None:
    program = sys.argv[1] if len(sys.argv) > 1 else ""
    if program not in NEEDS:
        sys.exit(f"usage: start.py {'|'.join(NEEDS)} [ARGUMENTS OF THE PROGRAM]")
    wanted = {name: make for name, make in NEEDS[program].items() if not os.environ.get(name)}
    try:
        with alone():
            keys = {name: make() for name, make in wanted.items()}
    except OSError as error:
        sys.exit(f"swapyard: the keys cannot be read or made: {error}")
    argv = [sys.executable, "-P", "-m", program, *sys.argv[2:]]
    os.execve(sys.executable, argv, {**os.environ, **keys})


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Both programs may start at the same moment, in two containers with one volume."""
    KEYS.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = os.open(KEYS, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


# What each program gets to know, by the names that its config uses.


def sidecar_key() -> str:
    file = KEYS / "sidecar"
    if not file.exists():
        keep(file, secrets.token_urlsafe(32))
    return file.read_text()


def sidecar_hash() -> str:
    return digest(sidecar_key())


def client_hash() -> str:
    return hash_of("client", "asks models, and sees what is loaded")


def admin_hash() -> str:
    return hash_of("admin", "may also load and unload, at a sidecar")


NEEDS = {
    "router": {
        "SIDECAR_KEY": sidecar_key,
        "CLIENT_KEY_SHA256": client_hash,
        "ADMIN_KEY_SHA256": admin_hash,
    },
    "sidecar": {
        "SIDECAR_KEY_SHA256": sidecar_hash,
        "CLIENT_KEY_SHA256": client_hash,
        "ADMIN_KEY_SHA256": admin_hash,
    },
}


def hash_of(name: str, about: str) -> str:
    file = KEYS / f"{name}.sha256"
    if not file.exists():
        secret = secrets.token_urlsafe(32)
        show(name, secret, about)  # before it is kept: a crash in between loses no key
        keep(file, digest(secret))
    return file.read_text()


def show(name: str, secret: str, about: str) -> None:
    """On a line of its own: what shows logs puts names before lines."""
    print(f"New key {name!r} ({about}), shown this once; only its hash is kept:\n{secret}")
    if name == "client":
        print(
            "Try (another port if SWAPYARD_LISTEN says so): curl -N http://127.0.0.1:8080/v1/chat/completions"
            f" -H 'Authorization: Bearer {secret}' -d '{HELLO}'"
        )
    sys.stdout.flush()


def keep(file: Path, text: str) -> None:
    """Whole or not at all, and for nobody else's eyes."""
    unfinished = file.with_suffix(".new")
    with open(unfinished, "w", opener=private) as output:
        output.write(text)
        output.flush()
        os.fsync(output.fileno())
    unfinished.rename(file)


def private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


if __name__ == "__main__":
    main()
