"""A sidecar that is killed again and again, at any moment and at each named point of its life, over
engines that are ready and over a switch; `python -m tests.faults.restarts --times 200 --seed 7`.

It prints JSON: how soon the Status is right, how many ready engines were taken over, what was left.
"""

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.pair import chat
from tests.fakes import answers
from tests.faults import points
from tests.faults.storm import processes, quiet, watch
from tests.faults.storm.comeback import Comebacks, come_back, to_adopt
from tests.faults.storm.fleet import Box, fleet_box
from tests.faults.storm.history import History
from tests.harness import until

READY = ("quick", "reporting", "deaf")  # that stay loaded while the two big ones change
SWITCHES = ("big-one", "big-two")
LATEST = (
    1.0  # seconds of a switch, in which it is killed: the stop of one and the load of the other
)
UNMET = frozenset({"demand-heard", "demand-settled"})  # there is no router to send any
TO_DIE = 4.0  # seconds in which it comes to a fault point, or is killed as it is
LOADED = 20.0


@dataclass
class Restarts:
    box: Box
    history: History
    chance: random.Random
    comebacks: Comebacks = field(default_factory=Comebacks)
    served: int = 0
    killed: Counter[str] = field(default_factory=Counter)

    async def once(self, number: int) -> None:
        """Half of them at a named point, in turn; the others at any moment of a switch."""
        names = list(points.POINTS)
        turn, at_a_point = divmod(number, 2)
        if at_a_point:
            await self.at(names[turn % len(names)], 1 + turn // len(names) % 3)
        else:
            await self.at_any_moment()

    async def at_any_moment(self) -> None:
        await self._load()
        await self._switch()
        await asyncio.sleep(self.chance.uniform(0, LATEST))
        await self.box.seat.killed()
        self.killed["at any moment"] += 1
        await self._return("at any moment")

    async def at(self, point: str, nth: int) -> bool:
        """Whether it came to that point: else it is killed as it is."""
        await self._load()
        met = await self._meet(point, nth)
        self.killed["at a point" if met else "at none, as it did not come to its point"] += 1
        if not met and nth == 1 and point not in UNMET:
            self.history.breach("a point that was not met", point, time.monotonic(), "")
        await self._return(point)
        return met

    async def _load(self) -> None:
        """What is to stay is ready, and none of the others is on its way."""
        for model in READY:
            await self.box.load(model)

        async def settled() -> bool:
            """what is to stay is ready, and nothing else is on its way"""
            phases = await self._phases()
            stays = all(phases[model] == "ready" for model in READY)
            return stays and {phases[model] for model in SWITCHES} <= {"idle", "ready"}

        await until(settled, LOADED)

    async def _switch(self) -> None:
        phases = await self._phases()
        (next, *_) = (model for model in SWITCHES if phases[model] != "ready")
        await self.box.load(next)

    async def _meet(self, point: str, nth: int) -> bool:
        """It is killed, comes back, is asked for a switch and all else, and meets its point, if
        it does."""
        await self.box.seat.killed()
        await self.box.seat.start(f"{point}:{nth}")
        deadline = time.monotonic() + TO_DIE
        while self.box.seat.code is None and time.monotonic() < deadline:
            try:
                await self._switch()
                await self._ask(READY[0])
            except (httpx.TransportError, ValueError):
                await asyncio.sleep(0.02)
        if self.box.seat.code is None:
            processes.send(self.box.seat.pid, signal.SIGTERM)  # some points are in its farewell
            await asyncio.sleep(0.1)
        met = self.box.seat.code == -signal.SIGKILL
        await self.box.seat.killed()
        return met

    async def _return(self, why: str) -> None:
        expected = to_adopt(self.box, time.monotonic())
        for model in await come_back(self.box, expected, self.comebacks, why):
            answer = await self._ask(model)
            living = self.box.engines.living()[model].engines
            if answer and list(living) == [expected[model]]:
                self.served += 1
            else:
                self.comebacks.lost.append(f"{why}: {model} does not serve: {living}")

    async def _ask(self, model: str) -> bool:
        body = {**chat(model, stream=False), "max_tokens": 3}
        async with self.box.seat.client() as http:
            answer = await http.post(f"/engines/{model}/v1/chat/completions", json=body)
        if answer.status_code != 200:
            return False
        text = answer.json()["choices"][0]["message"]["content"]
        return bool(text == answers.whole(answers.words(body), 3))

    async def _phases(self) -> dict[str, str]:
        return {model["id"]: model["phase"] for model in (await self.box.status())["models"]}


@asynccontextmanager
async def watched(box: Box, history: History) -> AsyncIterator[None]:
    """What it says and which processes it has, all the time."""
    async with asyncio.TaskGroup() as group:
        seats = {"the sidecar": box.seat}
        looks = (watch.statuses(box), watch.room(box), watch.falls(seats, history))
        tasks = [group.create_task(look) for look in looks]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def run(times: int, seed: int, *, busy: bool) -> dict[str, Any]:
    history = History(lambda asked: "")
    with tempfile.TemporaryDirectory(prefix="restarts-", ignore_cleanup_errors=True) as folder:
        box = fleet_box("1", Path(folder) / "box", history)
        async with box.seat, watched(box, history):
            restarts = Restarts(box, history, random.Random(seed), Comebacks(busy=busy))
            for number in range(times):
                try:
                    await restarts.once(number)
                except AssertionError as failure:
                    history.breach("stuck", f"#{number}", time.monotonic(), str(failure))
                    break
                if number % 10 == 9:
                    sys.stderr.write(f"{number + 1} of {times}\n")
            await quiet.without_engines(box, history)
            await quiet.nobody_else(history, {box.seat.pid})
        await quiet.nothing_is_left(history)
    for wrong in restarts.comebacks.wrong():
        history.breach("a sidecar that came back", "", time.monotonic(), wrong)
    return {
        "seed": seed,
        "killed": dict(restarts.killed),
        "comebacks": restarts.comebacks.figures(),
        "served_by_an_adopted_engine": restarts.served,
        "breaches": [f"{it.what} {it.nonce}: {it.detail}" for it in history.breaches],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.restarts", description=__doc__)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--busy", action="store_true", help="count from the first connection on")
    given = parser.parse_args()
    figures = asyncio.run(run(given.times, given.seed, busy=given.busy))
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    sys.exit(1 if figures["breaches"] else 0)


if __name__ == "__main__":
    main()
