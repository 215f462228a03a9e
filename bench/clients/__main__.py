"""What real clients do with each dialect: writes the tables of docs/clients.md. `make clients`.

Every client has a router, a sidecar and engines of its own; what they do is real but for the
engine, which is the fake program of the tests, because it fails when it is told to.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bench.clients.cases import CASES, Desk, models
from bench.clients.page import Report, generated
from bench.clients.programs import CLIENTS, Client, Running
from bench.clients.verdict import Cell, judge
from router.progress import DIALECTS
from tests.e2e.pair import pair
from tests.harness import ROOT

PAGE = ROOT / "docs" / "clients.md"
AT_A_TIME = 3  # on two cores: most of the time is spent in waiting for loads
ROUTER = "progress: {interval: 200ms}"  # several frames while a load of 1 s goes on


async def main() -> None:
    turns = asyncio.Semaphore(AT_A_TIME)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(report(client, turns)) for client in CLIENTS]
    reports = [task.result() for task in tasks]
    PAGE.write_text(generated(PAGE.read_text("utf-8"), reports), "utf-8")


async def report(client: Client, turns: asyncio.Semaphore) -> Report:
    dialects = [*DIALECTS]
    async with turns:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            async with (
                pair(folder, models(folder, dialects), router_yaml=ROUTER) as both,
                Running(client, folder / "client.log") as program,
            ):
                desk = Desk(both, program, folder)
                cells = {dialect: await row(desk, dialect) for dialect in dialects}
    print(f"{client.name}: {outcome(cells)}", flush=True)
    return Report(client, program.versions, cells)


async def row(desk: Desk, dialect: str) -> dict[str, Cell]:
    return {name: judge(name, dialect, await case(desk, dialect)) for name, case in CASES.items()}


def outcome(cells: Mapping[str, Mapping[str, Cell]]) -> str:
    wrong = [cell for seen in cells.values() for cell in seen.values() if not cell.as_it_should]
    return f"{len(wrong)} not as it should be" if wrong else "as it should be"


if __name__ == "__main__":
    asyncio.run(main())
