"""What clients see when one of two routers behind a balancer is killed.

Each client keeps its connection, and asks again as soon as it has its answer or has lost it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from math import inf

from bench.relay.engine import ANSWER
from bench.relay.figures import Seen
from bench.relay.load import Job
from bench.relay.targets import Target

CLIENTS = 32
BEFORE, AFTER = 1.0, 8.0  # seconds; the balancer takes 6 to believe that a router is gone


@dataclass(slots=True)
class Story:
    killed: float = inf  # when
    over: bool = False
    answers: int = 0  # after it
    answered: int = 0  # clients that had one
    lost: int = 0  # connections, with or without an answer on them
    longest: float = 0.0  # seconds for which a client had no answer, after it

    def told(self) -> Seen:
        if self.answered < CLIENTS:
            raise SystemExit(
                f"a router died: only {self.answered} of {CLIENTS} had an answer since"
            )
        told = {"clients": CLIENTS, "answers": self.answers, "lost": self.lost}
        return {**told, "longest_ms": round(self.longest * 1000, 1)}


async def measured(target: Target) -> Seen:
    """The router is gone afterwards."""
    job, story = Job(target.url, target.key, CLIENTS, AFTER, BEFORE), Story()
    async with asyncio.timeout(BEFORE + 2 * AFTER), asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(ask(job, story))
        await asyncio.sleep(BEFORE)
        os.kill(target.pids["router"], signal.SIGKILL)
        story.killed = time.monotonic()
        await asyncio.sleep(AFTER)
        story.over = True
    return story.told()


async def ask(job: Job, story: Story) -> None:
    host, port = job.address()
    last = time.monotonic()
    while not story.over:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            while not story.over:
                writer.write(job.request())
                await reader.readuntil(ANSWER)
                now = time.monotonic()
                if now > story.killed:
                    story.answers += 1
                    story.answered += last <= story.killed
                    story.longest = max(story.longest, now - max(last, story.killed))
                last = now
        except (asyncio.IncompleteReadError, ConnectionError):
            story.lost += 1
        finally:
            writer.close()
    story.longest = max(story.longest, time.monotonic() - max(last, story.killed))
