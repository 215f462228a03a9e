"""A YAML text as a tree of text, and the line on which each part of it stands.

Rule 1: pure. Environment variables come as a mapping.
Rule 2: scalars stay text; what they mean is for the fields of `settings.py` to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

Where = tuple[str | int, ...]  # the keys and indexes that lead to a value

_VARIABLE = re.compile(r"\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(:-[^{}]*)?\})?")
_TAG = "tag:yaml.org,2002:"
# What YAML takes a plain scalar for; its text counts all the same.
_TEXT = {_TAG + kind for kind in ("str", "bool", "int", "float", "timestamp", "value", "merge")}


class NotYaml(Exception):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"is not valid YAML: {message}")
        self.line = line


@dataclass
class Document:
    env: Mapping[str, str]
    values: Any = None
    lines: dict[Where, int] = field(default_factory=lambda: {(): 1})
    problems: list[tuple[int, Where, str]] = field(default_factory=list)
    unread: set[Where] = field(default_factory=set)  # what a field says of these is no news

    @classmethod
    def read(cls, text: str, env: Mapping[str, str]) -> Document:
        document = cls(env)
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            document.values = {} if node is None else document._value(node, ())
        except yaml.reader.ReaderError as error:
            raise NotYaml(text.count("\n", 0, error.position) + 1, error.reason) from None
        except yaml.MarkedYAMLError as error:
            said = ", ".join(filter(None, (error.context, error.problem)))
            raise NotYaml(_line(error.problem_mark), said) from None
        except (ValueError, OverflowError):  # from PyYAML, on "\U00110000"
            raise NotYaml(1, "an escape such as \\U00110000 names no character") from None
        except RecursionError:
            raise NotYaml(1, "it is nested too deeply, or an alias holds itself") from None
        return document

    def refuse(self, refusals: Iterator[tuple[Where, str]]) -> None:
        """Each on the line of the nearest thing that is written down."""
        for where, message in refusals:
            if where not in self.unread:
                place = next(
                    where[:n] for n in range(len(where), -1, -1) if where[:n] in self.lines
                )
                self.problems.append((self.lines[place], where, message))

    def _value(self, node: yaml.Node, where: Where) -> Any:
        match node:
            case yaml.MappingNode(tag="tag:yaml.org,2002:map"):
                return self._mapping(node, where)
            case yaml.SequenceNode(tag="tag:yaml.org,2002:seq"):
                return [self._at(item, item, (*where, n)) for n, item in enumerate(node.value)]
            case yaml.ScalarNode(tag="tag:yaml.org,2002:null"):
                return None
            case yaml.ScalarNode(tag=tag) if tag in _TEXT:
                return self._substituted(node, where)
        return self._unread(
            node, where, f"the YAML tag {node.tag.replace(_TAG, '!!')} is not known"
        )

    def _at(self, place: yaml.Node, node: yaml.Node, where: Where) -> Any:
        self.lines[where] = _line(place.start_mark)
        return self._value(node, where)

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        values: dict[str, Any] = {}
        pairs = [pair for pair in node.value if pair[0].tag != _TAG + "merge"]
        for _, source in (pair for pair in node.value if pair not in pairs):
            values |= self._merged(source, where)
        own: dict[str, int] = {}
        for key, value in pairs:
            line = _line(key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                self.problems.append((line, where, "a key must be plain text"))
            elif key.value in own:
                said = f"is given twice (first on line {own[key.value]})"
                self.problems.append((line, (*where, key.value), said))
            else:
                own[key.value] = line
                values[key.value] = self._at(key, value, (*where, key.value))
        return values

    def _merged(self, source: yaml.Node, where: Where) -> dict[str, Any]:
        """What `<<` brings in: of several mappings, the first that has a key gives it."""
        sources = source.value if isinstance(source, yaml.SequenceNode) else [source]
        values: dict[str, Any] = {}
        for mapping in reversed(sources):
            if isinstance(mapping, yaml.MappingNode):
                values |= self._mapping(mapping, where)
            else:
                said = "<< takes a mapping, or a list of mappings"
                self.problems.append((_line(mapping.start_mark), where, said))
        return values

    def _substituted(self, node: yaml.ScalarNode, where: Where) -> str:
        """As a shell does it: an empty variable also takes the default."""

        def value(variable: re.Match[str]) -> str:
            name, default = variable.groups()
            if name is None:
                said = "a variable is written ${NAME} or ${NAME:-default}"
            elif default is not None:
                return self.env.get(name) or default[2:]
            elif name in self.env:
                return self.env[name]
            else:
                said = f"the environment variable {name} is not set, and ${{{name}}} has no default"
            self._unread(node, where, said)
            return ""

        return _VARIABLE.sub(value, node.value)

    def _unread(self, node: yaml.Node, where: Where, message: str) -> None:
        self.problems.append((_line(node.start_mark), where, message))
        self.unread.add(where)


def _line(mark: yaml.Mark | None) -> int:
    return mark.line + 1 if mark else 1
