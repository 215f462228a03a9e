"""`swapyard probe`, as a monitor runs it: against a pair, one box alone, and what is neither."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.e2e.pair import ask, chat, fake, pair
from tests.fakes.box import Exchange, FakeBox
from tests.harness import Program, free_port, until

SWAPYARD = Path(sys.executable).parent / "swapyard"
KEY = "a-key-that-may-read"
Probe = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
def probe(tmp_path: Path) -> Probe:
    async def run(*arguments: str, key: str = "") -> tuple[int, str]:
        """Its exit status, and all that it says: one line."""
        argv = [str(SWAPYARD), "probe", *arguments]
        async with Program(argv, tmp_path, env={"SWAPYARD_KEY": key}) as program:
            code = await program.wait(30)
            (line,) = program.log().splitlines()
            return code, line

    return run


async def test_nothing_loaded_is_fine_for_a_router_and_for_a_sidecar(
    tmp_path: Path, probe: Probe
) -> None:
    async with pair(tmp_path, fake("one")) as both:
        for url in (both.router.url, f"{both.sidecar.url}/"):
            code, line = await probe("--url", url, "--model", "one")
            assert code == 0
            assert line.startswith("OK - box1: ready: none; waiting: nobody | boxes=1;;;0;1 ")
        assert (await both.status())["phase"] == "idle"


async def test_a_failed_load_is_a_warning_and_critical_for_who_named_the_model(
    tmp_path: Path, probe: Probe
) -> None:
    models = fake("one") + fake("broken", "--fail-with", "no room | at all")
    async with pair(tmp_path, models) as both:
        await ask(both.http, chat("broken"))
        for url in (both.router.url, both.sidecar.url):
            code, line = await probe("--url", url)
            assert (code, line.partition(" - ")[0]) == (1, "WARNING")
            assert "broken failed on box1: exited with code 1: no room / at all | boxes=1" in line
            code, line = await probe("--url", url, "--model", "broken")
            assert (code, line.partition(" - ")[0]) == (2, "CRITICAL")
            code, line = await probe("--url", url, "--model", "one")
            assert (code, line.partition(" - ")[0]) == (0, "OK")


async def test_a_missing_file_is_a_warning_before_anybody_has_asked(
    tmp_path: Path, probe: Probe
) -> None:
    model = f"  nowhere: {{engine: embedded, path: {tmp_path}/no.gguf, vram: 1MiB}}\n"
    async with pair(tmp_path, model) as both:
        code, line = await probe("--url", both.router.url)
    assert code == 1
    assert line.startswith(f"WARNING - box box1: nowhere: there is no file {tmp_path}/no.gguf | ")


async def test_a_wait_that_takes_too_long_counts_by_the_limits_that_are_given(
    tmp_path: Path, probe: Probe
) -> None:
    async with pair(tmp_path, fake("slow", "--load-seconds", "60")) as both:
        body = chat("slow")
        async with both.http.stream("POST", "/v1/chat/completions", json=body) as waiting:
            await anext(waiting.aiter_raw())
            for url in (both.router.url, both.sidecar.url):

                async def long_enough(url: str = url) -> bool:
                    """it was over a tenth of a second ago, also in the newest Status"""
                    return "longest=0.0" not in (await probe("--url", url))[1]

                await until(long_enough)
                assert (await probe("--url", url))[0] == 0
                assert (await probe("--url", url, "-w", "0.1"))[0] == 1
                assert (await probe("--url", url, "-w", "0.05", "-c", "0.1"))[0] == 2


async def test_a_lost_box_is_told_by_its_router(tmp_path: Path, probe: Probe) -> None:
    async with pair(tmp_path, fake("one")) as both:
        both.sidecar.program.terminate()
        await both.sidecar.program.wait()

        async def lost() -> bool:
            """the router has noticed"""
            return (await both.http.get("/readyz")).status_code == 503

        await until(lost)
        code, line = await probe("--url", both.router.url, "--model", "one")
    assert code == 2
    assert "box box1 cannot be reached: " in line
    assert "; no box that can be reached has one | boxes=0" in line


async def test_nobody_there_is_critical_and_a_wrong_question_is_unknown(probe: Probe) -> None:
    code, line = await probe("--url", f"http://127.0.0.1:{free_port()}")
    assert (code, "cannot be reached" in line) == (2, True)
    for wrong in (
        ("--url", "nonsense"),
        ("--url", "http://localhost:port"),
        ("-w", "soon"),
        ("-x",),
    ):
        code, line = await probe(*wrong)
        assert (code, line.partition(" - ")[0]) == (3, "UNKNOWN")


async def test_a_key_is_shown_and_one_that_is_refused_is_never_printed(probe: Probe) -> None:
    async def refuses(asked: Exchange) -> None:
        await asked.json(403, {"error": {"code": "forbidden"}})

    async with FakeBox("box1", [], refuses) as box:
        code, line = await probe("--url", box.url, key=KEY)
        assert box.authorizations == {f"Bearer {KEY}"}
    assert (code, "SWAPYARD_KEY" in line, KEY in line) == (3, True, False)
    for spoilt in (f"{KEY}\nx", f"{KEY}\N{EURO SIGN}"):
        code, line = await probe(key=spoilt)
        assert (code, KEY in line) == (3, False)


async def test_an_answer_of_something_else_is_unknown(probe: Probe) -> None:
    async def talks(asked: Exchange) -> None:
        await asked.whole(200, b"<html>")

    async with FakeBox("box1", [], talks) as box:
        code, line = await probe("--url", box.url)
    assert (code, "not as swapyard does" in line) == (3, True)
