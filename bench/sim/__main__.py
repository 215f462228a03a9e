"""Our cores on a virtual clock, beside others: writes the tables and the plot of
docs/scheduling.md (`make bench-sim`), or tells what decisions cost in a large fleet, as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

from bench.sim import scale
from bench.sim.compare import aims, compare
from bench.sim.figures import figures
from bench.sim.page import generated
from bench.sim.plot import plot
from tests.harness import ROOT

PAGE = ROOT / "docs" / "scheduling.md"
PLOT = ROOT / "docs" / "images" / "policies.svg"


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.sim", description=__doc__)
    words = parser.add_subparsers(dest="word", required=True)
    page = words.add_parser("page", help="write the tables and the plot")
    page.add_argument("--seeds", type=int, default=24, help="traces of a minute for each figure")
    page.add_argument("--long-seeds", type=int, default=3, help="long traces for each policy")
    page.add_argument("--workers", type=int, default=os.cpu_count())
    large = words.add_parser("scale", help="what decisions cost")
    large.add_argument("--requests", type=int, default=1000)
    large.add_argument("--models", type=int, action="append", help="again for more runs")
    large.add_argument("--boxes", type=int, default=scale.BOXES)
    return parser.parse_args()


def write_page(asked: argparse.Namespace) -> bool:
    """Whether every aim is met."""
    lines, rows = figures(asked.seeds), compare(asked.long_seeds, asked.workers)
    aimed_at = [*lines, *aims(rows)]
    for line in aimed_at:
        print(f"{'ok' if line.is_met else 'NO':3}{line.what}: {line.ours:.2f} ({line.aim:.2f})")
    PAGE.write_text(generated(PAGE.read_text("utf-8"), lines, rows), "utf-8")
    PLOT.parent.mkdir(exist_ok=True)
    PLOT.write_text(plot(rows), "utf-8")
    return all(line.is_met for line in aimed_at)


def tell_costs(asked: argparse.Namespace) -> None:
    for models in asked.models or (10, 100, 1000):
        costs = scale.play(scale.Scale(asked.requests, models, asked.boxes))
        print(json.dumps(costs, indent=2), flush=True)


if __name__ == "__main__":
    arguments = read_arguments()
    if arguments.word == "page":
        sys.exit(0 if write_page(arguments) else 1)
    else:
        tell_costs(arguments)
