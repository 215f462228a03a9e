"""For how long a model stays, as its clients wish."""

from pathlib import Path
from typing import Any

from tests.e2e.pair import Pair, ask, chat, fake, pair
from tests.harness import until

# Each fits beside the other.
MODELS = (fake("leaves", more=", keep_alive: 0") + fake("stays")).replace("700MiB", "1MiB")


async def wish(it: Pair, model: str, **more: Any) -> None:
    told = await ask(it.http, {**chat(model), **more})
    assert told.done


async def test_a_request_says_for_how_long_its_model_stays(tmp_path: Path) -> None:
    async with pair(tmp_path, MODELS) as it:
        await wish(it, "leaves", keep_alive="-1")
        await wish(it, "stays")
        await wish(it, "stays", keep_alive=0)
        await until(lambda: idle(it, "stays"))
        assert await it.loaded("leaves")
        await wish(it, "leaves")
        await until(lambda: idle(it, "leaves"))


async def idle(it: Pair, model: str) -> bool:
    return await it.phase(model) == "idle"
