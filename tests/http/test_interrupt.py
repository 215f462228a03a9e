"""A block that something outside ends: who ends it is told, and no other cancelling is lost."""

from __future__ import annotations

import asyncio

import pytest

from shared.interrupt import Interrupt


class Outer(Exception):
    pass


class Inner(Exception):
    pass


ENDS = {  # by whom, all in one turn of the loop, and what comes out of both blocks
    "o": Outer,
    "i": Inner,
    "oi": Outer,
    "io": Outer,
    "c": asyncio.CancelledError,
    "co": asyncio.CancelledError,
    "oc": asyncio.CancelledError,
    "ic": asyncio.CancelledError,
    "ci": asyncio.CancelledError,
    "oic": asyncio.CancelledError,
}


@pytest.mark.parametrize("limited", [False, True], ids=["plain", "with a time limit within"])
@pytest.mark.parametrize(("who", "raised"), ENDS.items(), ids=ENDS)
async def test_the_outermost_that_was_ended_is_told_and_a_cancel_goes_on(
    who: str, raised: type[BaseException], limited: bool
) -> None:
    outer, inner = Interrupt(), Interrupt()

    async def block() -> None:
        with outer, inner:
            async with asyncio.timeout(60 if limited else None):
                entered.set()
                await asyncio.Event().wait()

    entered = asyncio.Event()
    task = asyncio.ensure_future(block())
    await entered.wait()
    for one in who:
        {"o": lambda: outer.end(Outer()), "i": lambda: inner.end(Inner()), "c": task.cancel}[one]()
    with pytest.raises(raised):
        await task
    assert task.cancelling() == ("c" in who)


async def test_a_block_that_was_ended_before_it_begins_does_not_begin() -> None:
    interrupt = Interrupt()
    interrupt.end(Outer())
    with pytest.raises(Outer), interrupt:
        raise AssertionError


async def test_a_block_that_is_over_is_ended_no_more() -> None:
    interrupt = Interrupt()
    with interrupt:
        pass
    interrupt.end(Outer())
    await asyncio.sleep(0)  # where a cancel would come out
