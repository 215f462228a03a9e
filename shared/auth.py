"""Whose key a request shows, and what that key may do.

Rule 1: a key is never kept, told or logged. What is configured is its SHA-256; digests are compared
in constant time, and always with all of them.
Rule 2: this file does no I/O, reads no clock and never awaits.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field

from shared.errors import Forbidden, Unauthorized
from shared.settings import Settings

Scope = Literal["inference", "read", "admin"]
Need = Scope | Literal["everyone"]  # what a route asks for; `everyone`: not even a key


def _digest(value: object) -> bytes:
    if value == "":
        raise ValueError("must not be empty: it is the SHA-256 of the key, 64 hex digits")
    if not isinstance(value, str) or not re.fullmatch("[0-9a-fA-F]{64}", value):
        raise ValueError("must be 64 hex digits: the SHA-256 of the key, not the key itself")
    if (digest := bytes.fromhex(value)) == hashlib.sha256().digest():
        raise ValueError("is the SHA-256 of nothing: the key was empty when it was made")
    return digest


Digest = Annotated[bytes, BeforeValidator(_digest)]


class Key(Settings):
    """Who may come, and what for."""

    name: str = Field(min_length=1)  # for the log
    sha256: Digest = Field(repr=False)  # of the key, which is written nowhere itself
    # `inference`: ask models; `read`: see what is going on, logs too; `admin`: load and unload.
    scopes: tuple[Scope, ...] = Field(min_length=1)

    def caller(self) -> Caller:
        """Who comes with it."""
        return Caller(self.name, frozenset(self.scopes))


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the name of the key, and what it may do. Without a name: nobody was asked."""

    name: str | None
    scopes: frozenset[str]
    tenant: str = ""  # those of one tenant share their turns; without keys, all are one
    priority: int = 0

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes


Known = tuple[bytes, Caller]  # the digest of a key, and who comes with it

ANYBODY = Caller(None, frozenset())
TRUSTED = Caller(None, frozenset(get_args(Scope)))  # where no keys are set


def known(keys: Iterable[Key]) -> tuple[Known, ...]:
    """Worked out once, because requests ask for nothing else."""
    return tuple((key.sha256, key.caller()) for key in keys)


def admit(
    keys: Sequence[Known], headers: Iterable[tuple[bytes, bytes]], needs: Sequence[Need]
) -> Caller:
    """Any one of `needs` is enough; without one, nobody may. Unauthorized or Forbidden if not."""
    if "everyone" in needs:
        return ANYBODY
    caller = _caller(keys, headers) if keys else TRUSTED
    if caller.scopes.isdisjoint(needs):
        raise Forbidden(caller.name, needs)
    return caller


def _caller(keys: Sequence[Known], headers: Iterable[tuple[bytes, bytes]]) -> Caller:
    shown = _shown(headers)
    if not shown:
        raise Unauthorized(
            "A key is needed here: send it as `Authorization: Bearer KEY` or `x-api-key: KEY`."
        )
    if len(shown) > 1:
        raise Unauthorized("The request shows two different keys: send one of them.")
    digest = hashlib.sha256(shown.pop()).digest()
    callers = [caller for known, caller in keys if hmac.compare_digest(known, digest)]
    if not callers:
        raise Unauthorized(
            "This key is not known here: check it, or ask whoever runs this server for one."
        )
    return callers[0]


def _shown(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    """The keys in a request's headers, wherever OpenAI's, Anthropic's and Azure's clients put
    them. What is no key, such as the password for a proxy (`Basic`), is not looked at."""
    found = set()
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.partition(b" ")
            found.add(key.strip() if scheme.lower() == b"bearer" else b"")
        elif name in (b"x-api-key", b"api-key"):
            found.add(value.strip())
    return found - {b""}
