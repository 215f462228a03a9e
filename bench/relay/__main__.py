"""What the way through both programs costs, as JSON on stdout: `make bench-relay`.

The same load goes to the engine itself, through the pair, and to each URL that is named: for each
figure a round of all of them, then the next round. Those that are named serve a model `bench` with
the engine that `--show-engine` prints, and have nothing else to do. An answer that is not whole
ends it all with an error.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.relay import death, figures, targets
from bench.relay.engine import take_files
from bench.relay.figures import FIGURES, Figure, Seen
from bench.relay.page import generated
from bench.relay.targets import Target
from tests.harness import ROOT

OURS = {"direct": targets.direct, "pair": targets.pair, "two-routers": targets.two_routers}
PAGE = ROOT / "docs" / "performance.md"


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.relay", description=__doc__)
    add = parser.add_argument
    add("--only", action="append", choices=FIGURES, help="again for more; unset: all of them")
    add("--against", action="append", default=[], metavar="NAME=URL", help="the same load there")
    add("--key", default="", help="what those that are named ask for")
    add("--two-routers", action="store_true", help="also through two routers behind haproxy")
    add("--rounds", type=int, default=5, help="of each target, of which the median is told")
    add("--seconds", type=float, default=3.0, help="that a round lasts")
    add("--page", action="store_true", help="write the tables of docs/performance.md, too")
    add("--show-engine", action="store_true", help="print the command of the engine, and end")
    asked = parser.parse_args()
    if asked.two_routers and not shutil.which("haproxy"):
        parser.error("--two-routers needs haproxy on the PATH")
    if asked.rounds < 1 or asked.seconds <= 0:
        parser.error("there must be a round, of some time")
    if asked.page and (asked.only or len(asked.against) < 3 or not asked.two_routers):
        parser.error(
            "--page takes a run of all figures and columns, as docs/performance.md has them"
        )
    asked.against = [tuple(named.split("=", 1)) for named in asked.against]
    if odd := [named for named in asked.against if len(named) != 2]:
        parser.error(f"--against takes NAME=URL, not {odd[0][0]}")
    names = [*OURS, *(name for name, _ in asked.against)]
    if len({*names}) < len(names):
        parser.error(f"each needs a name of its own: {', '.join(names)}")
    return asked


async def main(asked: argparse.Namespace) -> dict[str, Any]:
    take_files()
    async with everyone(asked) as all_targets:
        seen = {}
        for name in asked.only or FIGURES:
            seen[name] = await measured(FIGURES[name], all_targets, asked)
        deaths = [await death.measured(it) for it in all_targets if it.name == "two-routers"]
    for line in figures.lines(figures.aims(seen)):
        print(line, file=sys.stderr)
    machine = {"cores": os.cpu_count(), "python": platform.python_version()}
    run = {"machine": machine, "rounds": asked.rounds, "seconds": asked.seconds, "figures": seen}
    return run | ({"a_router_dies": deaths[0]} if deaths else {})


@asynccontextmanager
async def everyone(asked: argparse.Namespace) -> AsyncIterator[Sequence[Target]]:
    async with AsyncExitStack() as stack:
        found = []
        for name, make in OURS.items():
            if name != "two-routers" or asked.two_routers:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                found.append(await stack.enter_async_context(make(folder)))
        yield [*found, *(Target(name, url, asked.key) for name, url in asked.against)]


async def measured(
    figure: Figure, all_targets: Sequence[Target], asked: argparse.Namespace
) -> dict[str, Any]:
    rounds: dict[str, list[Seen]] = {target.name: [] for target in all_targets}
    for n in range(asked.rounds):
        for target in figures.in_turn(all_targets, n):
            seen = await play(figure, target, asked.seconds)
            print(f"{figure.what}, round {n + 1}, {target.name}: {seen}", file=sys.stderr)
            rounds[target.name].append(seen)
    return figures.told(figure, rounds)


async def play(figure: Figure, target: Target, seconds: float) -> Seen:
    """One round, and what it cost our own programs: microseconds for each answer or chunk."""
    before = target.cpu_seconds()
    seen = await load(figure, target, seconds)
    for name, spent in target.cpu_seconds().items():
        seen[f"{name}_cpu_us"] = round((spent - before[name]) / seen["units"] * 10**6, 2)
    return seen


async def load(figure: Figure, target: Target, seconds: float) -> Seen:
    pipe, job = asyncio.subprocess.PIPE, figure.job(target.url, target.key, seconds)
    program = [sys.executable, "-m", "bench.relay.load"]
    process = await asyncio.create_subprocess_exec(*program, cwd=ROOT, stdin=pipe, stdout=pipe)
    said, _ = await process.communicate(json.dumps(asdict(job)).encode())
    if process.returncode:
        raise SystemExit(f"{figure.what}, {target.name}: not every answer was whole")
    return dict(json.loads(said))


if __name__ == "__main__":
    arguments = read_arguments()
    if arguments.show_engine:
        print(shlex.join([*targets.ENGINE, "PORT"]))
        sys.exit()
    run = asyncio.run(main(arguments))
    if arguments.page:
        PAGE.write_text(generated(PAGE.read_text("utf-8"), run), "utf-8")
    json.dump(run, sys.stdout, indent=2)
    print()
