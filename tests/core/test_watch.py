from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from shared.watch import Watch


async def until_all_wait() -> None:
    """Let every task run until it waits for something that only we can do."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_watcher_sees_the_value_as_it_is_and_then_each_change() -> None:
    watch = Watch(1)
    seen = aiter(watch)
    assert await anext(seen) == 1
    watch.set(2)
    assert watch.value == 2
    assert await anext(seen) == 2


async def test_a_change_while_the_reader_is_busy_is_not_missed() -> None:
    watch = Watch(0)
    seen: list[int] = []
    async for value in watch:
        seen.append(value)
        if value < 3:
            watch.set(value + 1)
        else:
            watch.close()
    assert seen == [0, 1, 2, 3]


async def test_the_newest_value_is_seen_even_when_it_is_closed_while_the_reader_is_busy() -> None:
    watch = Watch(0)
    seen: list[int] = []
    async for value in watch:
        seen.append(value)
        if value == 0:
            watch.set(1)
            watch.close()
    assert seen == [0, 1]


async def test_a_slow_reader_gets_the_newest_and_no_backlog() -> None:
    watch = Watch(0)
    seen = aiter(watch)
    await anext(seen)
    for value in range(1, 100):
        watch.set(value)
    assert await anext(seen) == 99
    following = asyncio.ensure_future(anext_of(seen))
    await until_all_wait()
    assert not following.done(), "there is nothing newer"
    watch.set(100)
    assert await following == 100


async def test_every_watcher_is_woken() -> None:
    watch = Watch("a")
    watchers = [aiter(watch) for _ in range(3)]
    for seen in watchers:
        await anext(seen)
    following = [asyncio.ensure_future(anext_of(seen)) for seen in watchers]
    await until_all_wait()
    watch.set("b")
    assert await asyncio.gather(*following) == ["b"] * 3


async def test_who_watches_ends_with_the_newest_value_when_it_is_closed() -> None:
    watch = Watch(1)

    async def all_seen() -> list[int]:
        return [value async for value in watch]

    reader = asyncio.ensure_future(all_seen())
    await until_all_wait()
    watch.set(2)
    watch.close()
    assert await reader == [1, 2]
    assert await all_seen() == [2], "who comes later sees how it ended"


async def anext_of(seen: AsyncIterator[object]) -> object:
    return await anext(seen)


async def test_who_waits_for_a_change_waits_no_longer_than_it_wants_to_and_may_wait_again() -> None:
    watch = Watch(0)
    await watch.change(watch.changes, at=time.monotonic())
    again = asyncio.ensure_future(watch.change(watch.changes, at=time.monotonic() + 3600))
    await until_all_wait()
    assert not again.done()
    seen = watch.changes
    watch.set(1)
    await again
    await watch.change(seen)


async def test_who_has_given_up_is_woken_by_nothing() -> None:
    watch = Watch(0)
    gone = asyncio.ensure_future(watch.change(watch.changes))
    stays = asyncio.ensure_future(watch.change(watch.changes))
    await until_all_wait()
    gone.cancel()
    watch.set(1)
    await stays
    assert (await asyncio.gather(gone, return_exceptions=True)) != [None]


async def test_nobody_waits_once_nothing_follows() -> None:
    watch = Watch(0)
    waiting = asyncio.ensure_future(watch.change(watch.changes))
    await until_all_wait()
    assert not watch.closed
    watch.close()
    await waiting
    assert watch.closed
