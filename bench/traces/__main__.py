"""Plays traces in real time, and prints what their clients saw as JSON: `make bench-traces`.

Without `--only-against`, each trace is played against our own pair first; then against each URL
that is named, with the same requests. Those have models A, B and C, with the engines that
`--show-engine` prints. What a Python program takes to start is part of the load that is asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import bare
from bench.traces.play import figures, play
from bench.traces.traces import ANSWER, MODELS, TRACES, Setting
from bench.traces.yard import LAYOUTS, engine, yard
from bench.workload import Arrival, Workload

STARTS = 5  # of an engine that loads nothing
PATIENCE = 120.0  # seconds that a client waits for its answer beyond the end of the trace


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.traces", description=__doc__)
    add = parser.add_argument
    add("--trace", action="append", choices=TRACES, help="again for more; unset: all of them")
    add("--layout", action="append", choices=LAYOUTS, help="of our pair; unset: one-box")
    add("--against", action="append", default=[], metavar="NAME=URL", help="play it there too")
    add("--only-against", action="store_true", help="not against our own pair")
    add("--load", type=float, default=2.0, help="seconds that an engine takes to load")
    add("--rate", type=float, default=2.0, help="requests per second, of all models together")
    add("--seconds", type=float, default=60.0, help="how long a trace lasts")
    add("--seeds", type=int, default=1, help="how often each is played, with other requests")
    add("--stream", action="store_true", help="streaming requests; else whole answers")
    add("--show-engine", action="store_true", help="print the command of the engines, and end")
    return parser.parse_args()


async def main(asked: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for trace in asked.trace or TRACES:
        for seed in range(asked.seeds):
            setting = Setting(asked.seconds, asked.rate, seed)
            for layout in [] if asked.only_against else asked.layout or ["one-box"]:
                seen = await ours(asked, setting, trace, layout)
                rows.append(head(asked, trace, seed, layout) | seen)
            for name, url in (named.split("=", 1) for named in asked.against):
                seen = await theirs(asked, setting, trace, url)
                rows.append(head(asked, trace, seed, name) | seen)
    return rows


def head(asked: argparse.Namespace, trace: str, seed: int, who: str) -> dict[str, Any]:
    asked_for = {"load_s": asked.load, "engine_sleeps_s": asked.sleeps, "rate": asked.rate}
    return {"trace": trace, "who": who, "seed": seed, **asked_for}


async def ours(
    asked: argparse.Namespace, setting: Setting, trace: str, layout: str
) -> dict[str, Any]:
    """Each time a pair of its own, that has learned nothing yet."""
    with tempfile.TemporaryDirectory() as folder:
        async with yard(Path(folder), LAYOUTS[layout], MODELS, asked.sleeps) as pair:
            seen = await theirs(asked, setting, trace, pair.url)
            return seen | {"loads": pair.loads}


async def theirs(
    asked: argparse.Namespace, setting: Setting, trace: str, url: str
) -> dict[str, Any]:
    patience = asked.seconds + PATIENCE
    await warm(url)
    seen = await play(url, TRACES[trace](setting), stream=asked.stream, patience=patience)
    return figures(seen)


async def warm(url: str) -> None:
    """Each model once, A last: who measures its loads knows them, and A is loaded."""
    for model in reversed(MODELS):
        once = Workload(0.0, (Arrival(0.0, model, ANSWER),))
        await play(url, once, stream=False, patience=PATIENCE)


def sleeps(load: float) -> float:
    """What is left of the load once the program runs."""
    with tempfile.TemporaryDirectory() as folder:
        start = statistics.median(bare.fake(0.0, Path(folder))[0] for _ in range(STARTS))
    return round(max(0.0, load - start), 3)


if __name__ == "__main__":
    arguments = read_arguments()
    arguments.sleeps = sleeps(arguments.load)
    if arguments.show_engine:
        print(shlex.join([*engine(arguments.sleeps), "--port", "PORT"]))
    else:
        json.dump(asyncio.run(main(arguments)), sys.stdout, indent=2)
        print()
