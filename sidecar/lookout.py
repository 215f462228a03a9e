"""Looks at what the sidecar does not own: the machine's memory, and the models' files.

It decides nothing: what it sees it tells, again and again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from sidecar import obstacles
from sidecar.catalogue import Known
from sidecar.failure import Exit
from sidecar.gpu import MemoryReader
from sidecar.looks import Looks
from sidecar.memory import Memory

LOOK_EVERY = 1.0  # seconds between two looks at what is really used, and at the models' files
# While somebody waits for memory: a switch has 25 ms for all that is not its engines'.
LOOK_AGAIN = 0.02


class Lookout:
    def __init__(self, reader: MemoryReader, seen: Memory, known: Mapping[str, Known]) -> None:
        self.seen = seen  # the newest
        self._reader = reader
        self._known = known
        self._hurry = asyncio.Event()

    def hurry(self) -> None:
        """Somebody waits for memory: look at once, and often."""
        self._hurry.set()

    async def watch_memory(
        self, leaders: Callable[[], Iterable[int]], tell: Callable[[Memory], None]
    ) -> None:
        """`leaders`: the processes that lead the engines' sessions."""
        while True:
            self._hurry.clear()
            self.seen = await self._reader.read(frozenset(leaders()))
            tell(self.seen)
            if self._reader.hangs:
                await asyncio.sleep(LOOK_EVERY)
            elif self._hurry.is_set():
                await asyncio.sleep(LOOK_AGAIN)
            else:
                await self._pause()

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY):
                await self._hurry.wait()

    async def watch_files(self, tell: Callable[[Mapping[str, Exit]], None]) -> None:
        looks = Looks("the models' files")
        while True:
            with looks.one():
                tell(self.obstacles())
            await asyncio.sleep(LOOK_EVERY)

    def obstacles(self) -> Mapping[str, Exit]:
        """Models that cannot be started, and why."""
        looked = {id: obstacles.of_model(known) for id, known in self._known.items()}
        return {id: obstacle for id, obstacle in looked.items() if obstacle is not None}
