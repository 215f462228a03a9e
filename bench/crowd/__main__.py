"""What very many clients cost that wait or watch, as JSON on stdout: `make bench-crowd`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
from typing import Any

from bench.crowd import line, waiting, watching


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.crowd", description=__doc__)
    add = parser.add_argument
    add("--clients", type=int, default=10_000, help="that wait for one model")
    add("--watchers", type=int, default=200, help="of changes")
    add("--seconds", type=int, default=20, help="for which each is looked at")
    return parser.parse_args()


async def main(asked: argparse.Namespace) -> dict[str, Any]:
    return {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "line": line.measured(),
        "waiting": await waiting.measured(asked.clients, asked.seconds),
        "watching": await watching.measured(asked.watchers, asked.seconds),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(read_arguments())), indent=2))
