"""What both programs may be told: where they listen, whom they let in, what they keep.

Rule: every default stands here, beside its reason, and nowhere else.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from shared.auth import Key
from shared.document import Where
from shared.settings import ConfigPath, Listen, Refusals, Settings


class Program(Settings):
    # True: without `keys`, everyone who reaches `listen` may use it; never by accident
    open: bool = False
    keys: tuple[Key, ...] = ()  # who may use it; with none, everyone on this machine
    listen: Listen
    # Beside the config file, so that two programs with two configs never meet in one folder.
    state_dir: ConfigPath = Field(default=Path("state"), validate_default=True)

    @property
    def lets_everyone_in(self) -> bool:
        """Other machines too."""
        return not self.keys and not self.listen.loopback

    @field_validator("keys")
    @classmethod
    def _each_key_once(cls, keys: tuple[Key, ...]) -> tuple[Key, ...]:
        again: list[tuple[Where, str]] = []
        for n, key in enumerate(keys):
            for other in keys[:n]:
                if key.name == other.name:
                    again.append(((n, "name"), f"{key.name} is listed twice"))
                elif key.sha256 == other.sha256:
                    again.append(((n, "sha256"), f"is the key of {other.name} already"))
        if again:
            raise Refusals(again)
        return keys

    @field_validator("listen")
    @classmethod
    def _is_not_open_by_accident(cls, listen: Listen, info: ValidationInfo) -> Listen:
        if not listen.loopback and info.data.get("open") is False and info.data.get("keys") == ():
            raise ValueError(
                "would let other machines in, and nobody is asked for a key: set `keys`, listen on"
                " 127.0.0.1, or write `open: true` if everyone who can reach this address may use"
                " it"
            )
        return listen
