"""What a config file says: YAML text + environment -> one frozen model, or every problem at once.

Rule 1: pure. The caller reads the file and the environment; nothing here looks at either.
Rule 2: scalars stay text until a field gives them a meaning. YAML 1.1 reads `off` as false, `1:30`
as 90 and `010` as 8; here `off` can be a dialect, and a `${PORT}` that becomes digits a number.

A rule that spans several fields or entries is looked at once each of them is right by itself.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path, PurePath
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import CoreSchema, ErrorDetails, core_schema

from shared.document import Document, NotYaml, Where


class Problems(Exception):
    """Everything that is wrong with one config file: one line each, in the file's order."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


class Refusals(ValueError):
    """For a validator that refuses several things inside its field: where below it, and why."""

    def __init__(self, refusals: Sequence[tuple[Where, str]]) -> None:
        super().__init__("; ".join(message for _, message in refusals))
        self.refusals = tuple(refusals)


class Settings(BaseModel):
    """The base of everything that a config file may say. An unknown key is a problem."""

    model_config = ConfigDict(extra="forbid", frozen=True)


M = TypeVar("M", bound=Settings)


def read(model: type[M], text: str, *, name: str, folder: PurePath, env: Mapping[str, str]) -> M:
    """`name` is the file's name in problems; relative paths start at the absolute `folder`."""
    try:
        document = Document.read(text, env)
    except NotYaml as error:
        raise Problems([f"{name}:{error.line}: {error}"]) from None
    try:
        settings = model.model_validate(document.values, context={"folder": folder})
    except ValidationError as error:
        for details in error.errors():
            document.refuse(_refusals(model, details))
    if not document.problems:
        return settings
    in_order = sorted(document.problems, key=lambda problem: problem[0])
    raise Problems([f"{name}:{line}: {_dotted(where)}{said}" for line, where, said in in_order])


# Values, as people write them.

_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)\s*(ms|s|m|h|)")
_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s*([KMGT]i?B|)")
_BYTES = {"": 1} | {
    f"{letter}{infix}B": base**power
    for power, letter in enumerate("KMGT", start=1)
    for infix, base in (("", 1000), ("i", 1024))
}
_MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")
_HOST = re.compile(r"[A-Za-z0-9._-]+")


def _duration(value: object) -> float:
    if value in ("never", math.inf):
        return math.inf
    if not (match := _DURATION.fullmatch(str(value))):
        raise ValueError("must be a duration such as 500ms, 90s, 10m, 2h or never")
    return float(match[1]) * _SECONDS[match[2]]


def _size(value: object) -> int:
    if not (match := _SIZE.fullmatch(str(value))):
        raise ValueError("must be a size such as 700MiB, 6GiB or 6GB")
    number, unit = match[1], _BYTES[match[2]]
    return int(float(number) * unit) if "." in number else int(number) * unit


def _model_id(value: str) -> str:
    if not _MODEL_ID.fullmatch(value) or not {"", ".", ".."}.isdisjoint(value.split("/")):
        raise ValueError(
            "a model id begins with a letter or digit, and has at most 128 of A-Z a-z 0-9 ._:/@+-"
        )
    if value in ("status", "events", "switch") or value.endswith(("/load", "/unload", "/logs")):
        raise ValueError(
            "a model id is not status, events or switch, and does not end in /load, /unload"
            " or /logs: these are paths of the sidecar"
        )
    return value


def _path(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str | Path):
        return value
    if not value or str(value).startswith("~"):
        raise ValueError("must be a path; for a home folder write ${HOME}")
    return Path((info.context or {}).get("folder", ""), value)


Duration = Annotated[float, BeforeValidator(_duration)]  # seconds; `never` is infinity
Size = Annotated[int, BeforeValidator(_size)]  # bytes
ModelId = Annotated[str, AfterValidator(_model_id)]
ConfigPath = Annotated[Path, BeforeValidator(_path)]  # absolute


@dataclass(frozen=True, slots=True)
class Listen:
    host: str  # without the brackets of an IPv6 address
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Only this machine can reach it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    @classmethod
    def parse(cls, value: object) -> Listen:
        if isinstance(value, Listen):
            return value
        host, _, port = str(value).rpartition(":")
        if not _is_host(host) or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
            raise ValueError("must be an address and a port, such as 127.0.0.1:8090 or [::1]:8090")
        return cls(host.strip("[]"), int(port))

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls.parse)


def _is_host(host: str) -> bool:
    if not (host.startswith("[") and host.endswith("]")):
        return bool(_HOST.fullmatch(host))
    try:
        IPv6Address(host[1:-1])
    except ValueError:
        return False
    return True


# From pydantic's words to ours.

_SECRET = {"key", "sha256", "secret"}
_MESSAGES = {
    "missing": "is required",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "string_type": "must be text{got}",
    "bool_type": "must be true or false{got}",
    "bool_parsing": "must be true or false{got}",
    "int_type": "must be a whole number{got}",
    "int_parsing": "must be a whole number{got}",
    "int_parsing_size": "must be a whole number{got}",
    "float_type": "must be a number{got}",
    "float_parsing": "must be a number{got}",
    "greater_than_equal": "must be at least {ge}{got}",
    "less_than_equal": "must be at most {le}{got}",
    "literal_error": "must be one of {choices}{got}",
    "path_type": "must be a path{got}",
    "tuple_type": "must be a list{got}",
    "dict_type": "must be a mapping{got}",
    "model_type": "must be a mapping{got}",
}


def _refusals(model: type[Settings], details: ErrorDetails) -> Iterator[tuple[Where, str]]:
    kind, where, context = details["type"], details["loc"], details.get("ctx", {})
    got = "" if _is_secret(where) else _got(details["input"])
    error = context.get("error")
    if where[-1:] == ("[key]",):
        yield where[:-1], str(error)
    elif kind == "default_factory_not_called" or (kind == "too_short" and details["input"]):
        return  # only because another value was refused, which has its own line
    elif kind == "extra_forbidden":
        close = difflib.get_close_matches(str(where[-1]), _keys(model, where[:-1]), n=1)
        yield where, "unknown key" + "".join(f" (did you mean {key}?)" for key in close)
    elif isinstance(error, Refusals):
        yield from (((*where, *below), message) for below, message in error.refusals)
    elif error is not None:
        yield where, f"{error}{got if isinstance(details['input'], str) else ''}"
    else:
        choices = str(context.get("expected", "")).replace("'", "").replace(" or ", ", ")
        template = _MESSAGES.get(kind, "is not valid{got}")
        yield where, template.format(got=got, choices=choices, **context)


def _is_secret(where: Where) -> bool:
    """Also where a key stands by mistake: as an entry of `keys`, or in place of the list."""
    return bool(_SECRET.intersection(where)) or (where[:1] == ("keys",) and len(where) < 3)


def _keys(model: type[Settings], where: Where) -> list[str]:
    """What may be written there; every list and mapping on the way is one of Settings."""
    kind: Any = model
    for part in where:
        if isinstance(kind, type) and issubclass(kind, Settings):
            kind = kind.model_fields[str(part)].annotation
        else:
            kind = next(arg for arg in get_args(kind) if isinstance(arg, type))
    return list(kind.model_fields)


def _got(value: object) -> str:
    """Shown as text where it is short; a password inside a URL is not shown."""
    match value:
        case None:
            return " (got nothing)"
        case list():
            return " (got a list)"
        case dict():
            return " (got a mapping)"
    text = re.sub(r"//[^/\s]*@", "//...@", str(value))
    plain = re.fullmatch(r"-?[0-9.]+", text)
    return f" (got {text[:60] if plain else repr(text[:60])})"


def _dotted(where: Where) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)
    dotted = "".join(parts).removeprefix(".")
    return f"{dotted if dotted.isprintable() else ascii(dotted)}: " if dotted else ""
