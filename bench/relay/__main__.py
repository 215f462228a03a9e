"""What the way through both programs costs, as JSON on stdout: `make bench-relay`.

The same load goes to the engine itself, through the pair, and to each URL that is named; for each
figure a round of all of them, then the next round. Those that are named serve a model `bench` with
the engine that `--show-engine` prints, and should have nothing else to do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.relay import targets
from bench.relay.engine import take_files
from bench.relay.figures import FIGURES, Figure, Seen, added, compared, summary
from bench.relay.targets import Target
from tests.harness import ROOT

WARM_UP = 0.5  # seconds before each round: connections, caches


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.relay", description=__doc__)
    add = parser.add_argument
    add("--only", action="append", choices=FIGURES, help="again for more; unset: all of them")
    add("--against", action="append", default=[], metavar="NAME=URL", help="the same load there")
    add("--key", default="", help="what the named URLs ask for")
    add("--rounds", type=int, default=5, help="of each target, of which the median is told")
    add("--seconds", type=float, default=3.0, help="that a round lasts")
    add("--show-engine", action="store_true", help="print the command of the engine, and end")
    return parser.parse_args()


async def main(asked: argparse.Namespace) -> dict[str, Any]:
    take_files()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        everyone = [
            await stack.enter_async_context(targets.direct(folder)),
            await stack.enter_async_context(targets.pair(folder)),
        ]
        named = (named.split("=", 1) for named in asked.against)
        everyone += [Target(name, url, asked.key) for name, url in named]
        return {
            "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
            "rounds": asked.rounds,
            "seconds": asked.seconds,
            "figures": {
                name: await measured(FIGURES[name], everyone, asked)
                for name in asked.only or FIGURES
            },
        }


async def measured(
    figure: Figure, everyone: Sequence[Target], asked: argparse.Namespace
) -> dict[str, Any]:
    rounds: dict[str, list[Seen]] = {target.name: [] for target in everyone}
    for n in range(asked.rounds):
        for target in everyone:
            seen = await play(figure, target, asked.seconds)
            print(f"{figure.what}, round {n + 1}, {target.name}: {seen}", file=sys.stderr)
            rounds[target.name].append(seen)
    told = {name: summary(seen) for name, seen in rounds.items()}
    for one in told.values():
        one |= added(one, told["direct"])
    others = [name for name in told if name not in ("direct", "pair")]
    ratios = {f"pair / {name}": compared(told["pair"], told[name]) for name in others}
    return {"what": figure.what, **told, **ratios}


async def play(figure: Figure, target: Target, seconds: float) -> Seen:
    before = target.cpu_seconds()
    seen = await generated(figure, target, seconds)
    for name, spent in target.cpu_seconds().items():
        seen[f"{name}_cpu_us"] = round((spent - before[name]) / seen["units"] * 10**6, 2)
    return seen


async def generated(figure: Figure, target: Target, seconds: float) -> Seen:
    """One round, by a process of its own."""
    job = figure.job(target.url, target.key, seconds, WARM_UP)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.relay.load",
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate(json.dumps(asdict(job)).encode())
    if process.returncode:
        raise SystemExit(f"{figure.what}, {target.name}: not every answer was whole")
    return dict(json.loads(said))


if __name__ == "__main__":
    arguments = read_arguments()
    if arguments.show_engine:
        print(shlex.join([*targets.ENGINE, "PORT"]))
    else:
        json.dump(asyncio.run(main(arguments)), sys.stdout, indent=2)
        print()
