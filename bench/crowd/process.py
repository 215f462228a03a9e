"""What the benchmarks of crowds share: what a program of ours takes, and a word with theirs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import psutil


class Process:
    """What one of our programs takes."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.peak = 0  # of `rss`, as often as that was asked for

    def cpu(self) -> float:
        """Seconds so far."""
        spent = self._process.cpu_times()
        return spent.user + spent.system

    def rss(self) -> int:
        """MiB, swapped out or not."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text("ascii").splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        kib = sum(int(fields[name].split()[0]) for name in ("VmRSS", "VmSwap"))
        self.peak = max(self.peak, kib // 1024)
        return kib // 1024


async def tell(process: asyncio.subprocess.Process, line: str) -> Any:
    """One line to a program of ours, and its answer of one line."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{line}\n".encode())
    answer = await process.stdout.readline()
    assert answer, "it has failed: see above"
    return json.loads(answer)
