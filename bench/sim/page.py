"""The generated parts of docs/scheduling.md.

Rule: no I/O. The page is a function of itself and of what was simulated; what stands between two
markers is replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.sim.compare import Row, summary
from bench.sim.figures import Line
from docs.generate import filled

SHOWN = ("join", "fifo", "patience 10 s", "sum")  # what others do, or what one would do first


def generated(page: str, figures: Sequence[Line], rows: Sequence[Row]) -> str:
    page = filled(page, "figures", of_figures(figures))
    return filled(page, "policies", of_policies(rows))


def of_figures(lines: Sequence[Line]) -> str:
    cells = ((n.what, with_unit(n.aim, n), with_unit(n.ours, n), n.remark) for n in lines)
    return table(("what", "aim: at most", "simulated", ""), cells)


def with_unit(value: float, line: Line) -> str:
    return f"{value:.2f} {line.unit}".rstrip()


def of_policies(rows: Sequence[Row]) -> str:
    together = summary(rows)
    head = ("trace", "ours", *SHOWN, "best known", "ours / best")
    cells = [
        (
            row.case,
            seconds(row.ours),
            *(seconds(row.others[name]) for name in SHOWN),
            f"{seconds(row.best)} ({row.who})",
            f"{row.ratio:.2f}",
        )
        for row in rows
    ]
    mean, worst = together["geometric_mean"], together["worst"]
    return f"{table(head, cells)}\n\nOurs / best: geometric mean {mean:.2f}, worst {worst:.2f}."


def seconds(value: float) -> str:
    return f"{value:.3g}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = [*head]
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
