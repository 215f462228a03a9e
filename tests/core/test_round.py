from __future__ import annotations

import asyncio

from router.round import AT_A_TIME, Round

MANY = [str(n) for n in range(3 * AT_A_TIME)]


async def until_all_are_told() -> None:
    """Let the loop go round more often than a round has parts."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_few_are_told_at_once_and_of_many_the_first_before_all_others() -> None:
    told: list[str] = []
    round = Round(told.append)
    round.add("ab")
    assert told == ["a", "b"]
    round.add(MANY)
    assert told[2:] == MANY[:AT_A_TIME], "others are served before the rest"
    await until_all_are_told()
    assert told[2:] == MANY


async def test_who_is_still_to_be_told_is_told_once_and_who_was_told_is_told_again() -> None:
    told: list[str] = []
    round = Round(told.append)
    round.add(MANY)
    round.add(MANY)
    await until_all_are_told()
    assert told == [*MANY, *MANY[:AT_A_TIME]]


async def test_nobody_is_told_any_more_once_it_is_given_up() -> None:
    told: list[str] = []
    round = Round(told.append)
    round.add(MANY)
    round.cancel()
    await until_all_are_told()
    assert told == MANY[:AT_A_TIME]
