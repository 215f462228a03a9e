"""The figures of the README, as JSON on stdout: `make bench`.

Everything runs on this machine, one after the other, against the real programs. Figures of other
machines differ; what is compared with each other comes from the same run.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from bench import eta, faults, leaving, progress, switch

LEAVERS = 20  # in each state; `python -m bench.leaving` has 400


async def figures() -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        return {
            "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
            "switch": await switch.figures(Path(folder)),
            "progress": await progress.figures(Path(folder)),
            "eta": await eta.figures(Path(folder)),
            "faults": await faults.figures(Path(folder)),
            "leaving": await leaving.figures(leaving.made(Path(folder) / "leaving"), LEAVERS),
        }


if __name__ == "__main__":
    json.dump(asyncio.run(figures()), sys.stdout, indent=2)
    print()
