"""What `make bench-crowd` measures, with fewer: here it must only be so."""

from __future__ import annotations

from bench.crowd import waiting, watching

CLIENTS = 150
WATCHERS = 20


async def test_each_of_very_many_who_wait_for_a_switch_gets_its_whole_answer() -> None:
    seen = await waiting.measured(CLIENTS, 1)
    assert seen["answered"]["answered"] == CLIENTS
    assert seen["answered"]["frames"] > 3  # at least: waits, loads, is loaded, and the answer


async def test_all_who_watch_hear_of_changes_while_one_of_them_never_reads() -> None:
    seen = await watching.measured(WATCHERS, 1)
    for path in ("/models/events", "/models/sse"):
        assert seen[path]["changes"] > 0
        assert WATCHERS - 1 <= seen[path]["heard"] <= seen[path]["to_hear"]
