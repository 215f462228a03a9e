"""The generated parts of docs/clients.md.

Rule: no I/O. The page is a function of itself and of what was seen; what stands between two markers
is replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.clients.programs import Client, Versions
from bench.clients.verdict import Cell
from docs.generate import filled


@dataclass(frozen=True)
class Report:
    """All that was seen of one client: by dialect, then by case."""

    client: Client
    versions: Versions
    cells: Mapping[str, Mapping[str, Cell]]


def generated(page: str, reports: list[Report]) -> str:
    parts = {
        "clients": clients(reports),
        "at a glance": at_a_glance(reports),
        "cells": "\n\n".join(cells(report) for report in reports),
        "unexpected": unexpected(reports),
    }
    for name, text in parts.items():
        page = filled(page, name, text)
    return page


def clients(reports: list[Report]) -> str:
    rows = [
        (report.client.name, versions(report.versions), report.client.used) for report in reports
    ]
    return table(("client", "versions", "used as"), rows)


def versions(seen: Versions) -> str:
    return ", ".join(
        [*(f"{name} {number}" for name, number in seen.packages.items()), seen.runtime]
    )


def at_a_glance(reports: list[Report]) -> str:
    dialects = [*reports[0].cells]
    rows = [
        (report.client.name, *(summary(report.cells[dialect]) for dialect in dialects))
        for report in reports
    ]
    return table(("client", *(f"`{dialect}`" for dialect in dialects)), rows)


def summary(seen: Mapping[str, Cell]) -> str:
    """What a cold request sees, and where something is not as it should be."""
    bad = [case for case, cell in seen.items() if not cell.as_it_should]
    return "; ".join([seen["cold"].words, *(f"**FAIL** {case}" for case in bad)])


def cells(report: Report) -> str:
    cases = [*next(iter(report.cells.values()))]
    rows = [
        (f"`{dialect}`", *(seen[case].words for case in cases))
        for dialect, seen in report.cells.items()
    ]
    return f"### {report.client.name}\n\n" + table(("dialect", *cases), rows)


def unexpected(reports: list[Report]) -> str:
    found = [
        f"- {report.client.name}, `{dialect}`, {case}: {cell.words}"
        + (f": {one_line(cell.details)}" if cell.details else "")
        for report in reports
        for dialect, seen in report.cells.items()
        for case, cell in seen.items()
        if not cell.as_it_should
    ]
    return "\n".join(found) or "Nothing."


def one_line(text: str) -> str:
    return " ".join(text.split())[:300]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = [*head]
    lines = [head, ["---" for _ in head], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
