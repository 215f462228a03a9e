"""The generated parts of docs/performance.md.

Rule: no I/O. The page is a function of itself and of what a run said; what stands between two
markers is replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bench.relay.figures import aims
from docs.generate import filled

ROWS = (  # what, figure, numbers
    ("requests/s, 32 connections", "requests", ("requests_per_s",)),
    ("their time, ms: median / 99 of 100", "requests", ("took_p50_ms", "took_p99_ms")),
    ("1 connection, ms: median / 99 of 100", "alone", ("took_p50_ms", "took_p99_ms")),
    (
        "processor time of an answer, µs: router / sidecar",
        "requests",
        ("router_cpu_us", "sidecar_cpu_us"),
    ),
    ("chunks/s to 8 streams", "chunks", ("chunks_per_s",)),
    ("50 streams of 50/s, a chunk's way, ms", "streams-50", ("lag_p50_ms", "lag_p99_ms")),
    ("1,000 streams of 20/s, a chunk's way, ms", "streams-1000", ("lag_p50_ms", "lag_p99_ms")),
    ("how many chunks/s these were", "streams-1000", ("chunks_per_s",)),
)


def generated(page: str, run: Mapping[str, Any]) -> str:
    page = filled(page, "aims", of_aims(run["figures"]))
    page = filled(page, "figures", f"{of_figures(run['figures'])}\n\n{of_machine(run)}")
    return filled(page, "death", of_death(run["a_router_dies"])) if "a_router_dies" in run else page


def of_aims(figures: Mapping[str, Any]) -> str:
    cells = (
        (aim.what, f"{'at least' if aim.at_least else 'at most'} {aim.bound:g}", f"{value:g}")
        for aim, value in aims(figures)
    )
    return table(("what", "aim", "measured"), cells)


def of_figures(figures: Mapping[str, Any]) -> str:
    names = [*next(iter(figures.values()))["targets"]]
    rows = (
        (what, *(cell(figures[figure]["targets"][name], numbers) for name in names))
        for what, figure, numbers in ROWS
        if figure in figures
    )
    return table(("", *(f"`{name}`" for name in names)), rows)


def cell(seen: Mapping[str, Any], numbers: Iterable[str]) -> str:
    found = [seen[name] for name in numbers if name in seen]
    return " / ".join(map(number, found))


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def of_machine(run: Mapping[str, Any]) -> str:
    """Rounds and seconds are told here, and nowhere else on the page."""
    machine, rounds = run["machine"], run["rounds"]
    medians = f"Medians of {rounds} rounds" if rounds > 1 else "One round"
    return (
        f"{medians} of {run['seconds']:g} s; {machine['cores']} cores, Python {machine['python']}."
    )


def of_death(seen: Mapping[str, Any]) -> str:
    return (
        f"Of {seen['clients']} clients that ask without a pause, {seen['lost']} lost a connection "
        f"when one of two routers was killed; each had its next answer within "
        f"{seen['longest_ms']:.0f} ms."
    )


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = [*head]
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
