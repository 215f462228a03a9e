from __future__ import annotations

import asyncio
import math
import time

from shared.alarm import Alarm

SOON = 0.02  # seconds


class Bell:
    """Notes when it rings."""

    def __init__(self) -> None:
        self.rang: list[float] = []
        self.alarm = Alarm(self.ring)
        self._ringing = asyncio.Event()

    def ring(self) -> None:
        self.rang.append(time.monotonic())
        self._ringing.set()

    async def next(self) -> None:
        self._ringing.clear()
        await self._ringing.wait()


async def test_a_moment_that_is_put_off_rings_once_and_not_before_its_time() -> None:
    bell, now = Bell(), time.monotonic()
    bell.alarm.set(now + SOON)
    bell.alarm.set(now + 2 * SOON)
    await bell.next()
    assert len(bell.rang) == 1
    assert bell.rang[0] >= now + 2 * SOON


async def test_a_sooner_moment_replaces_a_later_one_and_what_has_passed_is_now() -> None:
    bell = Bell()
    bell.alarm.set(time.monotonic() + 3600)
    bell.alarm.set(time.monotonic() + SOON)
    await bell.next()
    bell.alarm.set(time.monotonic() - 1)
    await bell.next()
    assert len(bell.rang) == 2


async def test_what_is_put_off_for_ever_or_given_up_never_rings() -> None:
    silent, given_up, last = Bell(), Bell(), Bell()
    now = time.monotonic()
    silent.alarm.set(now)
    silent.alarm.set(math.inf)
    given_up.alarm.set(now)
    given_up.alarm.cancel()
    last.alarm.set(now + SOON)
    await last.next()
    assert silent.rang == given_up.rang == []
