"""What tests of the memory reader share: a program of its own that reports what it reads.

Rule: a process can load NVML only once, so each test has such a program, with drivers of its own:
the test changes their files and waits for what the program reports.
"""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness import Program, until

NO_REPORT: dict[str, Any] = {"gpus": [], "problem": "no report yet", "uses": {}, "drivers": {}}
REPORT_CHANGES = """\
import asyncio, json, os, signal
from dataclasses import asdict
from pathlib import Path
from sidecar.gpu import MemoryReader, SystemMemory
from shared import logs

leaders = Path(os.environ["LEADERS"])

async def report(reader):
    last = None
    while True:
        memory = asdict(await reader.read(frozenset(map(int, leaders.read_text().split()))))
        now = json.dumps({name: memory[name] for name in ("gpus", "problem", "drivers", "uses")})
        if now != last:
            print(now)
        last = now
        await asyncio.sleep(0.01)

async def main():
    with MemoryReader(SystemMemory(Path(os.environ["AMD"])), deadline=0.3) as reader:
        task = asyncio.create_task(report(reader))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await asyncio.wait([task])

logs.configure()
asyncio.run(main())
"""


@dataclass(frozen=True)
class Box:
    program: Program
    driver: Path
    leaders: Path
    smi: Path

    def set(self, text: str) -> None:
        """In one step, so that nobody reads half of it."""
        draft = self.driver.with_suffix(".draft")
        draft.write_text(text)
        draft.rename(self.driver)

    async def reports(self, *, gpus: int, problem: str | None) -> dict[str, Any]:
        """The next report with so many GPUs and a problem that says this."""

        def matching() -> dict[str, Any] | None:
            report = self.last()
            said = report["problem"]
            agrees = said is None if problem is None else problem in (said or "")
            return report if agrees and len(report["gpus"]) == gpus else None

        return await until(matching)

    def last(self) -> dict[str, Any]:
        """The last whole report."""
        *whole, _ = self.program.log().split("\n")
        reports = [line for line in whole if line.startswith('{"gpus"')]
        return dict(json.loads(reports[-1])) if reports else NO_REPORT


@asynccontextmanager
async def box(tmp: Path, library: Path | str, driver: str) -> AsyncIterator[Box]:
    file, leaders, smi = tmp / "driver", tmp / "leaders", tmp / "smi"
    file.write_text(driver)
    leaders.touch()
    env = {
        "LD_LIBRARY_PATH": str(library),
        "FAKE_NVML": str(file),
        "LEADERS": str(leaders),
        "AMD": str(tmp / "drm"),
        "FAKE_AMDSMI": str(smi),
    }
    async with Program([sys.executable, "-c", REPORT_CHANGES], tmp, env=env) as program:
        yield Box(program, file, leaders, smi)
