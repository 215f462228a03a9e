"""What a sidecar measures outlives it."""

import json
import stat
from pathlib import Path

import pytest

from tests.harness import until
from tests.http.boxes import box, fake


def journal(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.json"


async def test_load_and_stop_times_are_known_to_the_next_sidecar(tmp_path: Path) -> None:
    models = {"a": fake("--load-seconds", "0.3"), "b": fake()}
    async with box(tmp_path, models) as it:
        assert (await it.of("a"))["load_source"] == "unknown"
        await it.load("a")
        await it.unload("a")
        measured = (await it.of("a"))["load_s"]
        assert measured > 0.3
    assert stat.S_IMODE(journal(tmp_path).stat().st_mode) == 0o600
    async with box(tmp_path, models) as it:
        known = await it.of("a")
        assert (known["load_s"], known["load_source"]) == (measured, "history")
        assert (await it.of("b"))["load_source"] == "unknown"
    kept = json.loads(journal(tmp_path).read_text())["models"]["a"]["measured"]
    assert kept["stops_s"][0] > 0


async def test_what_was_measured_of_another_command_is_no_guide(tmp_path: Path) -> None:
    async with box(tmp_path, {"a": fake()}) as it:
        await it.load("a")
    async with box(tmp_path, {"a": fake("--load-seconds", "0.1")}) as it:
        assert (await it.of("a"))["load_source"] == "unknown"


@pytest.mark.parametrize("text", ["{", '{"v": 2, "models": {}}', '{"v": 1, "models": {"a": 7}}'])
async def test_a_journal_that_cannot_be_read_is_told_and_measuring_begins_anew(
    tmp_path: Path, text: str
) -> None:
    journal(tmp_path).parent.mkdir()
    journal(tmp_path).write_text(text)
    async with box(tmp_path, {"a": fake()}) as it:
        assert "the journal cannot be read" in it.server.program.log()
        await it.load("a")

        def kept() -> bool:
            return "loads_s" in journal(tmp_path).read_text()

        await until(kept)


async def test_a_journal_that_cannot_be_written_disturbs_nothing(tmp_path: Path) -> None:
    async with box(tmp_path, {"a": fake()}) as it:
        journal(tmp_path).with_suffix(".new").mkdir()
        await it.load("a")
        assert "the journal cannot be written" in it.server.program.log()
        assert (await it.of("a"))["load_source"] == "history"
