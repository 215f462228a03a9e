"""Models that come and go by themselves: preloaded, on standby, kept alive."""

from __future__ import annotations

from pathlib import Path

from tests.harness import until
from tests.http.boxes import box, fake

ONE_OF_THEM = {"memory_limit": "10MiB"}
BIG = "8MiB"


async def test_a_preloaded_model_is_there_before_anybody_asks(tmp_path: Path) -> None:
    async with box(tmp_path, {"a": fake(), "b": fake()}, scheduling={"preload": ["b"]}) as yard:
        await yard.until("b", "ready")
        assert (await yard.of("a"))["phase"] == "idle"


async def test_a_model_that_nobody_uses_leaves_after_its_keep_alive(tmp_path: Path) -> None:
    async with box(tmp_path, {"a": fake(keep_alive="300ms"), "b": fake()}) as yard:
        await yard.load("b")
        loaded = await yard.load("a")
        assert 0 < loaded["expires_in_s"] <= 0.3
        await yard.until("a", "idle")
        still = await yard.of("b")
        assert (still["phase"], still["expires_in_s"]) == ("ready", None)


async def test_a_standby_makes_room_for_a_big_model_and_comes_back_after_it(tmp_path: Path) -> None:
    models = {"small": fake(vram=BIG, standby=True), "big": fake(vram=BIG)}
    async with box(tmp_path, models, **ONE_OF_THEM) as yard:
        await yard.until("small", "ready")
        await yard.load("big")
        assert (await yard.of("small"))["phase"] == "idle"
        await yard.until("small", "ready")
        assert (await yard.of("big"))["phase"] == "idle"


async def test_a_standby_that_was_unloaded_by_hand_stays_away(tmp_path: Path) -> None:
    async with box(tmp_path, {"a": fake(standby=True), "b": fake()}) as yard:
        await yard.until("a", "ready")
        await yard.unload("a")
        await yard.load("b")
        await yard.unload("b")
        assert len(yard.journal("a", "ready")) == 1
        assert (await yard.of("a"))["phase"] == "idle"


async def test_a_model_stays_as_long_as_the_config_says_whoever_asks(tmp_path: Path) -> None:
    models = {name: fake(vram=BIG) for name in "ab"}
    rules = {"min_resident": "1h"}
    async with box(tmp_path, models, scheduling=rules, **ONE_OF_THEM) as yard:
        await yard.load("a")
        demand = {"v": 1, "seq": 1, "ttl_s": 60, "models": {"b": {"waiting": {"0": 1}}}}
        assert (await yard.http.put("/demand/r", json=demand)).status_code == 204

        async def told() -> str | None:
            plan = (await yard.status())["plan"]
            return next((entry["because"] for entry in plan if entry["model"] == "b"), None)

        because = await until(told)
        assert because.startswith("1 waiting, oldest 0.0 s; a may be served for 3"), because
        await yard.load("b")  # by hand
        assert (await yard.of("a"))["phase"] == "idle"
