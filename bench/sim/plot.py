"""One SVG: for each trace, how far each policy's mean wait is from the best one's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from bench.sim.compare import Row

LEFT, RIGHT, TOP, ROW = 330, 30, 60, 20  # pixels
WIDTH = 860
LOWEST, HIGHEST = 0.9, 3.0  # ratios; what is worse stands at the edge
TICKS = (1.0, 1.25, 1.5, 2.0, 3.0)
OTHERS, OURS, LINES = "#9aa5b1", "#c2410c", "#e2e8f0"


def plot(rows: Sequence[Row]) -> str:
    height = TOP + ROW * len(rows) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        dot(LEFT, 20, OURS, 5) + text(LEFT + 10, 24, "swapyard"),
        dot(LEFT + 100, 20, OTHERS, 4) + text(LEFT + 110, 24, "each of the known policies"),
        *axis(height - 30),
        *(line for n, row in enumerate(rows) for line in one(row, TOP + ROW * n)),
        text(LEFT, height - 8, "mean wait, times the best known policy's (at the edge: more)"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def axis(bottom: int) -> Iterator[str]:
    for ratio in TICKS:
        at = x(ratio)
        yield f'<path d="M{at} {TOP - 14}V{bottom}" stroke="{LINES}"/>'
        yield text(at - 8, TOP - 18, f"{ratio:g}")


def one(row: Row, y: int) -> Iterator[str]:
    yield text(LEFT - 12, y + 4, row.case, anchor="end")
    for wait in row.others.values():
        yield dot(x(wait / row.best), y, OTHERS, 4)
    yield dot(x(row.ratio), y, OURS, 5)


def x(ratio: float) -> float:
    """Logarithmic."""
    within = min(max(ratio, LOWEST), HIGHEST)
    share = math.log(within / LOWEST) / math.log(HIGHEST / LOWEST)
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def dot(at: float, y: float, colour: str, radius: int) -> str:
    return f'<circle cx="{at}" cy="{y}" r="{radius}" fill="{colour}" fill-opacity="0.8"/>'


def text(at: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{at}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'
