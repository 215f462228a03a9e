"""Writes the parts of the documentation that the code knows best: the keys and the phases.

python docs/generate.py

Rule: a page is a pure function of itself and the code; what stands between two markers is
replaced, everything else is left as it is.
"""

from __future__ import annotations

import ast
import inspect
import io
import math
import re
import textwrap
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from router.config import RouterConfig
from shared.auth import Digest
from shared.settings import ConfigPath, Duration, Listen, ModelId, Settings, Size
from sidecar.config import Gpus, SidecarConfig
from sidecar.diagram import phase_diagram

FOLDER = Path(__file__).resolve().parent
PAGES = ("architecture.md", "configuration.md")

# Types that are numbers and text to Python, and are written in ways of their own: by the mark that
# `Annotated` gives them.
MARKED = (
    (Duration, "duration"),
    (Size, "size"),
    (ConfigPath, "path"),
    (ModelId, "model id"),
    (Digest, "64 hex digits"),
    (Gpus, "`auto`, `none`, whole number, list of indexes and UUIDs"),
)
WORDS = {get_args(hint)[1]: word for hint, word in MARKED}
ENGINES = ("llama.cpp", "embedded", "command")
PLAIN = {str: "text", int: "whole number", bool: "true or false", Listen: "address and port"}


class Key(NamedTuple):
    name: str  # dotted, as in problems
    type: str
    default: str
    why: str


def main() -> None:
    for page in PAGES:
        path = FOLDER / page
        path.write_text(generated(path.read_text(encoding="utf-8")), encoding="utf-8")


def generated(page: str) -> str:
    """The page with each of its generated parts as it should be."""
    parts = {
        "phases": f"```mermaid\n{phase_diagram()}```",
        "router keys": table(RouterConfig),
        "sidecar keys": table(SidecarConfig),
    }
    for name, text in parts.items():
        page = filled(page, name, text)
    return page


def filled(page: str, name: str, text: str) -> str:
    between = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return between.sub(lambda found: f"{found[1]}{text}\n{found[2]}", page)


def table(model: type[Settings]) -> str:
    head = ["| key | type | default | remark |", "|---|---|---|---|"]
    return "\n".join(
        head + [f"| `{k.name}` | {k.type} | {k.default} | {k.why} |" for k in keys(model)]
    )


# What may be written in a file.


def keys(model: type[Settings], above: str = "") -> Iterator[Key]:
    """Every key, in the order of the models, sections before what is in them."""
    remarks, hints = comments(model), get_type_hints(model, include_extras=True)
    for name, field in model.model_fields.items():
        hint = hints[name]
        below, suffix = section(hint)
        said = remarks.get(name) or (below.__doc__ if below else None) or ""
        yield Key(above + name, kind(hint, field), default(field), remark(said))
        if below is not None:
            yield from keys(below, f"{above}{name}{suffix}.")


def section(hint: Any) -> tuple[type[Settings] | None, str]:
    """The settings that stand below a key, and what comes between."""
    inner, suffix = hint, ""
    if get_origin(hint) is tuple:
        inner, suffix = get_args(hint)[0], "[]"
    elif get_origin(hint) is Mapping:
        inner, suffix = get_args(hint)[1], ".NAME"
    found = isinstance(inner, type) and issubclass(inner, Settings)
    return (inner if found else None), suffix


def kind(hint: Any, field: FieldInfo) -> str:
    bounds = [f"at least {m.ge}" for m in field.metadata if isinstance(m, Ge)]
    bounds += [f"at most {m.le}" for m in field.metadata if isinstance(m, Le)]
    return ", ".join([word(hint), *bounds])


def word(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    marked = next((WORDS[m] for m in getattr(hint, "__metadata__", ()) if m in WORDS), None)
    if marked is not None:
        return marked
    if hasattr(hint, "__metadata__"):
        return word(hint.__origin__)
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in args)
    if origin is tuple:
        plural = "" if args[0] is str or get_origin(args[0]) is Literal else "s"
        return f"list of {word(args[0])}{plural}"
    if origin is Mapping:
        return f"mapping of {word(args[0])} to {word(args[1])}"
    if NoneType in args:
        return word(next(arg for arg in args if arg is not NoneType))
    if isinstance(hint, type) and issubclass(hint, Settings):
        return "section"
    return "secret" if hint is SecretStr else PLAIN[hint]


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:  # it depends on the engine
        of_engine = [(e, field.default_factory({"engine": e})) for e in ENGINES]  # type: ignore[call-arg]
        return ", ".join(f"`{value}` ({engine})" for engine, value in of_engine)
    value = field.default
    if isinstance(value, Settings):
        return ""
    return "unset" if value in (None, "") else f"`{written(value)}`"


def written(value: Any) -> str:
    """As one would write it in the file."""
    match value:
        case bool():
            return str(value).lower()
        case Path():
            return f"./{value}"
        case float():
            return duration(value)
        case int() if value >= 2**20 and value % 2**20 == 0:
            return f"{value // 2**20}MiB"
        case tuple():
            return "[]"
    return str(value)


def duration(seconds: float) -> str:
    if seconds == math.inf:
        return "never"
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"


# What the code says beside a key.


def comments(model: type[Settings]) -> dict[str, str]:
    """By key: the comment lines right above its field, and those on its own lines."""
    remarks: dict[str, str] = {}
    for base in model.__mro__:
        if issubclass(base, Settings) and base is not Settings:
            remarks = comments_in(textwrap.dedent(inspect.getsource(base))) | remarks
    return remarks


def comments_in(source: str) -> dict[str, str]:
    lines = source.splitlines()
    notes = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    remarks = {}
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first = node.lineno
            while lines[first - 2].lstrip().startswith("#"):
                first -= 1
            last = node.end_lineno or node.lineno
            said = [notes[n] for n in range(first, last + 1) if n in notes]
            remarks[node.target.id] = " ".join(said)
    return remarks


def remark(said: str) -> str:
    """In the words of the file: None is what is not written."""
    said = said.replace("\n", " ").replace("|", "\\|")
    return said.replace("None:", "unset:").replace("True:", "`true`:")


if __name__ == "__main__":
    main()
