"""The memory of one pretend box: what is really taken, whatever any ledger says.

Rule: who takes more than there is does not get it. An engine dies of that; a stranger does without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sidecar.memory import HOST, Bytes, Gpu, Host, Memory, gpu, on_gpus
from tests.core.pair_records import Launch


class Hardware:
    """`gpus`: bytes of each. `room`: bytes of the host that engines may take. `tells`: the drivers
    say which process takes what. `lag`: seconds until GPUs have back what an engine took."""

    def __init__(
        self, room: int, gpus: Sequence[int] = (), *, tells: bool = True, lag: float = 0.0
    ) -> None:
        self.tells, self.lag = tells, lag
        self.total: Bytes = {gpu(n): size for n, size in enumerate(gpus)} | {HOST: room}
        self.grew_at: Counter[str] = Counter()  # when strangers last took some, by pool
        self.met_strangers = False
        self._strangers: Counter[str] = Counter()
        self._engines: dict[Launch, Bytes] = {}
        self._ended: set[Launch] = set()

    # Who takes and gives back.

    def take(self, launch: Launch) -> bool:
        """False: there is not that much."""
        takes = {
            pool: size if pool == HOST else launch.program.takes or size
            for pool, size in launch.booking.items()
        }
        if any(size > self.free(pool) for pool, size in takes.items()):
            return False
        self._engines[launch] = takes
        return True

    def give_back(self, launch: Launch) -> None:
        self._engines.pop(launch, None)
        self._ended.discard(launch)

    def has_ended(self, launch: Launch) -> None:
        """Its process is no more; what it took of GPUs is still used."""
        if launch in self._engines:
            self._engines[launch] = on_gpus(self._engines[launch])
            self._ended.add(launch)

    def strangers_take(self, pool: str, size: int, now: float) -> None:
        """As much of it as there is."""
        got = min(size, self.free(pool))
        if got > 0:
            self._strangers[pool] += got
            self.grew_at[pool] = now
            self.met_strangers = True

    def strangers_give_back(self, pool: str) -> None:
        del self._strangers[pool]

    # What can be seen.

    def free(self, pool: str) -> int:
        return self.total[pool] - self._used(pool)

    def seen(self) -> Memory:
        """As the drivers show it."""
        gpus = tuple(
            Gpu(
                n,
                uuid=f"GPU-{n}",
                name="pretend",
                total=size,
                used=self._used(pool),
                utilisation=None,
            )
            for n, (pool, size) in enumerate(self.total.items())
            if pool != HOST
        )
        size, used = self.total[HOST], self._used(HOST)
        alive = self._engines.keys() - self._ended if self.tells else set()
        uses = {id(launch): self._engines[launch] for launch in alive}
        return Memory(Host(size, used, size - used), gpus, uses=uses)

    def _used(self, pool: str) -> int:
        engines = sum(taken.get(pool, 0) for taken in self._engines.values())
        return engines + self._strangers[pool]
