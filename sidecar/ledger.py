"""What engines really take of the memory: measured, kept as their need, and waited for.

Rule 1: a booking is what an engine may take; here it is corrected to what it was seen to take.
Rule 2: this file does no I/O, reads no clock and never awaits.

An engine's use of a GPU is what its driver says of the engine's processes. Where their ids are not
ours (containers, WSL), it is the difference that its start has made, if nobody else of ours came
or went on that GPU meanwhile. Whatever is used beyond that belongs to strangers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from shared.status import Phase
from sidecar.engine import Engine
from sidecar.failure import Exit
from sidecar.memory import HOST, Bytes, Memory, add, gpu, on_gpus
from sidecar.needs import corrected, has_too_little, shortage
from sidecar.use import RETURNS_WITHIN, SLACK, Hope, Lost, Use

WORTH_KEEPING = 1.05  # a peak that has grown by less is not written to the disk at once


class Ledger:
    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self.strangers: dict[str, int] = {}  # what others use, by GPU
        self.stuck: dict[str, Hope] = {}  # models whose room others hold
        self.lost: list[Lost] = []
        self.learned = False  # something that is worth keeping
        self._capacity: Bytes = {}
        self._uuids: Mapping[str, str] = {}  # the pool of each GPU that is there
        self._trouble: str | None = None
        self._engines = engines
        self._used: dict[str, int] = {}  # by GPU
        self._seen_at = -math.inf
        self._places: dict[str, str] = {HOST: HOST}  # what the history calls each pool
        self._seen_by_pid: set[str] = set()  # GPUs on which processes of ours were ever named
        self._uses: dict[str, Use] = {}
        self._closing = False

    # What happens.

    def supplied(self, capacity: Bytes, uuids: Mapping[str, str], trouble: str | None) -> bool:
        """What engines may take. True if that changes where one could be."""
        now = (capacity, uuids, trouble)
        if now == (self._capacity, self._uuids, self._trouble):
            return False
        self._capacity, self._uuids, self._trouble = now
        self._places |= {pool: uuid for uuid, pool in uuids.items()}
        placed = [self._place(engine) for engine in self._engines.values()]
        return any(placed)

    def recalled(self) -> None:
        """An earlier sidecar's measurements are in the histories now."""
        for engine in self._engines.values():
            self._place(engine)

    def started(self, engine: Engine) -> None:
        """It has its booking."""
        before = {p: self._used[p] for p in on_gpus(engine.booking) if p in self._used}
        others = list(self._others_on(before, engine))
        alone = all(other.is_settled for other in others)
        self._disturb(others)
        self._uses[engine.model.id] = Use(engine, before, alone)

    def as_measured(self, engine: Engine, booking: Bytes) -> Bytes:
        """What it had booked when it started, corrected by what it was seen to take."""
        peaks = self._peaks(engine)
        there = {pool: peaks[pool] for pool in booking if pool in peaks}
        return corrected(engine.model.need, booking, there)

    def adopted(self, engine: Engine) -> None:
        """It was there before us: what it takes can be told of its processes only."""
        self._uses[engine.model.id] = Use(engine, before={}, alone=False)

    def ended(self, engine: Engine, now: float) -> bool:
        """Its process is gone. True if its memory must be waited for."""
        use = self._uses[engine.model.id]
        if use.measured:
            self._keep(use, worth=1.0)
        gpus = [pool for pool in on_gpus(engine.booking) if pool in self._used]
        if self._closing or not gpus:
            del self._uses[engine.model.id]
            return False
        self._disturb(self._others_on(gpus, engine))
        use.ended_at = now
        use.hope = Hope(sum(map(use.holds, gpus)), now + RETURNS_WITHIN)
        return True

    def close(self, now: float) -> None:
        """Nobody comes after those who leave: their memory is waited for no more."""
        self._closing, self.stuck = True, {}
        for use in self._uses.values():
            if use.hope:
                use.hope.until = now

    def look(self, seen: Memory, leaders: Mapping[str, int]) -> None:
        """`leaders`: the process that leads each engine's session."""
        self._used, self._seen_at = {gpu(g.index): g.used for g in seen.gpus}, seen.at
        self._places |= {gpu(g.index): g.uuid for g in seen.gpus}
        for id, use in self._uses.items():
            use.engine.leader = leaders.get(id)
            told = seen.uses.get(leaders[id], {}) if id in leaders else {}
            use.look(told, self._used, seen.at)
            self._seen_by_pid |= on_gpus(told).keys() if use.listed else set()
            if use.is_settled:
                self._correct(use)
        self._see_strangers()

    def returned(self, now: float) -> list[str]:
        """Models whose memory is back, or will not come back."""
        back = [id for id, use in list(self._uses.items()) if self._is_over(id, use, now)]
        if back:
            self._see_strangers()
        return back

    def waits_for_others(self, stuck: Iterable[str], now: float) -> bool:
        """These models wait for room that others hold. True if it is not the same as before."""
        before, self.stuck = self.stuck, {}
        for model in stuck:
            missing = sum(self._shortage(self._nearest(model)).values())
            hope = before.get(model, Hope(missing, now + RETURNS_WITHIN))
            hope.saw(missing, now)
            self.stuck[model] = hope
        return before.keys() != self.stuck.keys()

    def hopeless(self, model: str, now: float) -> Exit | None:
        """Why its load has failed before it began."""
        hope = self.stuck.get(model)
        if hope is None or now < hope.until:
            return None
        booking = self._nearest(model)
        lacks = self._shortage(booking) or booking
        pool = max(lacks, key=lacks.__getitem__)
        pinned = self._pinned()
        words = has_too_little(booking, pool, self._capacity, self.strangers, pinned)
        return Exit("vram_oom", words)

    # What is asked.

    @property
    def one_start_at_a_time(self) -> set[str]:
        """GPUs where only a difference tells what one of ours takes, or may."""
        unseen = [e.placements for e in self._engines.values() if e.model.elsewhere]
        theirs = {pool for possible in unseen for booking in possible for pool in booking}
        return {p for p in self._used if p in theirs or p not in self._seen_by_pid}

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for what the next look will show."""
        return bool(self.stuck) or any(
            use.hope or (use.before and use.engine.machine.serves and not use.measured)
            for use in self._uses.values()
        )

    @property
    def deadline(self) -> float:
        hopes = [use.hope for use in self._uses.values() if use.hope]
        return min((hope.until for hope in (*hopes, *self.stuck.values())), default=math.inf)

    def held(self, pool: str) -> int:
        """By engines of ours."""
        return sum(use.holds(pool) for use in self._uses.values())

    def room_of(self, engine: Engine) -> Bytes:
        """What nobody else may have while it has a process."""
        return self._uses[engine.model.id].room

    def measured(self, engine: Engine) -> int | None:
        """The most that it was seen to take where its memory is."""
        peaks = self._peaks(engine)
        where = (engine.booking, *engine.placements)
        return max(sum(peaks.get(pool, 0) for pool in booking) for booking in where) or None

    # Measuring.

    def _correct(self, use: Use) -> None:
        engine = use.engine
        self._keep(use, WORTH_KEEPING)
        if use.told or use.alone:
            engine.booking = corrected(engine.model.need, engine.booking, use.peak)

    def _keep(self, use: Use, worth: float) -> None:
        engine = use.engine
        for pool, peak in use.peak.items():
            place, kept = self._places[pool], use.kept.get(pool)
            if peak and (kept is None or peak > kept * worth):
                engine.history.took(place, peak, of_the_last=kept is not None)
                use.kept[pool] = peak
                self.learned = True
        self._place(engine)

    def _place(self, engine: Engine) -> bool:
        return engine.place(self._capacity, self._uuids, self._trouble, self._peaks(engine))

    def _peaks(self, engine: Engine) -> Bytes:
        kept = engine.history.measured.peaks
        known = ((pool, kept.get(place)) for pool, place in self._places.items())
        return {pool: max(peaks) for pool, peaks in known if peaks}

    def _disturb(self, uses: Iterable[Use]) -> None:
        for use in uses:
            use.alone = False

    def _others_on(self, pools: Iterable[str], engine: Engine) -> Iterator[Use]:
        there = set(pools)
        for use in self._uses.values():
            if use.engine is not engine and not there.isdisjoint(use.engine.booking):
                yield use

    # What is not ours, and what is ours no more.

    def _see_strangers(self) -> None:
        """Where what one of ours takes is not known at this moment, they are what they were, or
        more: what is used beyond all that ours may take there is not ours. Never more than what
        is used at all. Nor is it known where ours are told to take more than is used: the driver
        was asked for the one after the other, and a load went on meanwhile."""
        hidden = {
            p for use in self._uses.values() if use.hides_strangers for p in use.engine.booking
        }
        hidden |= {pool for pool, used in self._used.items() if self._told(pool) > used}
        known = {pool: size for pool, size in self.strangers.items() if pool in hidden}
        self.strangers = {
            pool: min(used, max(known.get(pool, 0), used - self.held(pool)))
            for pool, used in self._used.items()
        }
        self.lost = [
            lost
            for lost in self.lost
            if lost.pool in self._used and self.strangers[lost.pool] > lost.strangers + SLACK
        ]

    def _told(self, pool: str) -> int:
        """By the drivers, at the last look."""
        return sum(use.now.get(pool, 0) for use in self._uses.values() if use.listed)

    def _is_over(self, id: str, use: Use, now: float) -> bool:
        if use.hope is None:
            return False
        if self._closing:
            self._forget(id)
            return True
        missing = self._missing(use)
        if self._seen_at >= use.ended_at:
            use.hope.saw(sum(missing.values()), now)
            if not missing:
                self._forget(id)
                return True
        if now < use.hope.until:
            return False
        self._forget(id)
        self.lost += [Lost(p, size, id, self.strangers[p]) for p, size in missing.items()]
        return True

    def _missing(self, use: Use) -> Bytes:
        """Of its GPUs: used by nobody that we know of, and not by strangers before."""
        others = [other for other in self._uses.values() if other is not use]
        over = {
            pool: self._used[pool]
            - self.strangers[pool]
            - sum(self._surely_holds(other, pool) for other in others)
            for pool in on_gpus(use.engine.booking)
            if pool in self._used
        }
        return {pool: size for pool, size in over.items() if size > SLACK}

    def _surely_holds(self, use: Use, pool: str) -> int:
        """Not what it may take yet, where the driver will tell of that: it would look as if it had
        come back already."""
        engine = use.engine
        told = pool in self._seen_by_pid and not engine.model.elsewhere
        if told and engine.machine.phase is Phase.STARTING:
            return use.now.get(pool, 0)
        return use.holds(pool)

    def _forget(self, id: str) -> None:
        use = self._uses.pop(id)
        self._disturb(self._others_on(on_gpus(use.engine.booking), use.engine))

    # Room that others hold.

    def _nearest(self, model: str) -> Bytes:
        """Where it lacks least."""
        possible = self._engines[model].placements
        return min(possible, key=lambda booking: sum(self._shortage(booking).values()))

    def _shortage(self, booking: Bytes) -> dict[str, int]:
        return shortage(booking, self._capacity, self.strangers, self._pinned())

    def _pinned(self) -> Bytes:
        return add(use.room for use in self._uses.values() if use.engine.model.pinned)
