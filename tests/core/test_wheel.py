from __future__ import annotations

import asyncio

from router.wheel import TICK, Wheel


def waiter() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


async def test_nobody_is_woken_before_its_time() -> None:
    wheel, loop = Wheel(), asyncio.get_running_loop()
    began = loop.time()
    for seconds in (0.0, TICK / 2, TICK, 3 * TICK):
        one = waiter()
        wheel.add(one, seconds)
        await one
        assert loop.time() >= began + seconds


async def test_those_who_are_due_together_are_woken_in_one_turn_of_the_loop() -> None:
    wheel, loop, waiters = Wheel(), asyncio.get_running_loop(), [waiter() for _ in range(100)]
    middle = 1.5 * TICK - loop.time() % TICK  # of a tick, which takes longer than to add them
    for one in waiters:
        wheel.add(one, middle)
    await waiters[0]
    assert all(one.done() for one in waiters)


async def test_who_was_woken_by_something_else_or_taken_out_is_left_alone() -> None:
    wheel = Wheel()
    woken, gone, last = waiter(), waiter(), waiter()
    wheel.add(woken, 0.0)
    wheel.add(gone, 0.0).discard(gone)
    wheel.add(last, 0.0)
    woken.set_result(None)
    await last
    assert not gone.done()
