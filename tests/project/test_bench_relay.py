"""What quietly could be wrong in the figures that docs/performance.md quotes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.relay.death import CLIENTS, Story
from bench.relay.engine import ANSWER, DIGITS, DONE, event
from bench.relay.figures import AIMS, FIGURES, aims, in_turn, told
from bench.relay.page import ROWS, generated
from bench.relay.readers import Chunks, Reader, TimedChunks, Whole, Window
from bench.relay.targets import BALANCER

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "performance.md").read_text("utf-8")
COLUMNS = ["direct", "pair", "two-routers", "llama-swap", "llama-swap-lean", "llama-swap-twice"]

Kind = type[Chunks] | type[TimedChunks]

# What the load generator counts.

SENT = [5, 40, 100]  # nanoseconds, of three chunks
BODY = b"".join(event(b"%0*d" % (DIGITS, sent)) for sent in SENT) + DONE
FOREIGN = b'event: model_switching\ndata: {"choices":[{"index":0,"delta":{}}]}\n\n'


def read(reader: Reader, *pieces: bytes, at: int = 100) -> str:
    for piece in pieces:
        reader.feed(piece, at)
    return reader.end()


@pytest.mark.parametrize("kind", [Chunks, TimedChunks])
@pytest.mark.parametrize("size", [1, 7, 100, len(BODY)])
def test_each_chunk_is_counted_wherever_a_relay_cuts(kind: Kind, size: int) -> None:
    window = Window(0, 1000)
    reader = kind(len(SENT), window)
    pieces = [BODY[n : n + size] for n in range(0, len(BODY), size)]
    assert read(reader, *pieces) == ""
    assert window.chunks == len(SENT)
    assert read(reader, *pieces) == "", "the next one begins anew"


@pytest.mark.parametrize("kind", [Chunks, TimedChunks])
def test_what_a_relay_adds_is_no_chunk(kind: Kind) -> None:
    window = Window(0, 1000)
    assert read(kind(len(SENT), window), FOREIGN, BODY) == ""
    assert window.chunks == len(SENT)


@pytest.mark.parametrize("kind", [Chunks, TimedChunks])
@pytest.mark.parametrize(
    "body",
    [b"", BODY[: -len(DONE)], BODY[:-1], BODY.partition(b"\n\n")[2], event(b"0" * DIGITS) + BODY],
)
def test_a_stream_with_anything_missing_or_too_much_is_not_whole(kind: Kind, body: bytes) -> None:
    assert read(kind(len(SENT), Window(0, 1000)), body) != ""


def test_only_the_engines_own_bytes_are_a_whole_answer() -> None:
    reader = Whole()
    assert read(reader, ANSWER[:9], ANSWER[9:]) == ""
    assert read(reader, ANSWER[:-1]) != ""
    assert read(reader, ANSWER) == ""


def test_the_way_of_a_chunk_is_timed_from_the_engines_clock() -> None:
    window = Window(begins=40, ends=100)
    assert read(TimedChunks(len(SENT), window), BODY[:150], BODY[150:], at=140) == ""
    assert window.lags == [100], "only of what was sent in the window"


# What is made of it.


def seen(rate: int, lag: float = 0.0) -> dict[str, Any]:
    return {"units": 1, "requests_per_s": rate, "lag_p99_ms": lag}


def test_medians_are_told_and_compared() -> None:
    rounds = {
        "direct": [seen(900, 0.25), seen(1000, 0.5), seen(5000, 9.0)],
        "pair": [seen(210, 2.0), seen(200, 1.5), seen(1, 40.0)],
        "llama-swap": [seen(100), seen(90), seen(400)],
    }
    figure = told(FIGURES["requests"], rounds)
    pair = figure["targets"]["pair"]
    assert (pair["requests_per_s"], pair["lag_p99_ms"], pair["added_lag_p99_ms"]) == (200, 2, 1.5)
    assert pair["rounds"] == rounds["pair"]
    assert figure["pair_to"] == {"llama-swap": {"requests_per_s": 2.0}}
    ((aim, value),) = aims({"requests": figure})
    assert (aim.of, value, aim.is_met_by(value), aim.is_met_by(1.09)) == (
        "llama-swap",
        2.0,
        True,
        False,
    )


@pytest.mark.parametrize("aim", AIMS)
def test_an_aim_is_met_on_its_own_side_only(aim: Any) -> None:
    better = aim.bound + (0.01 if aim.at_least else -0.01)
    worse = aim.bound - (0.01 if aim.at_least else -0.01)
    assert [aim.is_met_by(it) for it in (better, aim.bound, worse)] == [True, True, False]
    assert aim.figure in FIGURES


def test_each_round_begins_with_another_one() -> None:
    orders = [in_turn("abc", n) for n in range(4)]
    assert orders == [list(it) for it in ("abc", "bca", "cab", "abc")]


def test_no_client_may_be_without_an_answer_after_a_router_has_died() -> None:
    assert Story(answered=CLIENTS, lost=16, longest=0.0704).told()["longest_ms"] == 70.4
    with pytest.raises(SystemExit, match=f"only {CLIENTS - 1} of {CLIENTS}"):
        Story(answered=CLIENTS - 1).told()


def test_the_tables_are_functions_of_what_was_measured() -> None:
    figure = told(FIGURES["requests"], {"direct": [seen(1000)], "pair": [seen(200)]})
    run = {"machine": {"cores": 2, "python": "3.11.7"}, "rounds": 5, "seconds": 3.0}
    empty = "".join(f"<!-- {it} -->\n<!-- /{it} -->\n" for it in ("aims", "figures", "death"))
    death = {"clients": 32, "lost": 16, "longest_ms": 70.4}
    page = generated(empty, {**run, "figures": {"requests": figure}, "a_router_dies": death})
    assert "|  | `direct` | `pair` |" in page
    assert "| requests/s, 32 connections | 1,000 | 200 |" in page
    assert "Medians of 5 rounds of 3 s; 2 cores, Python 3.11.7." in page
    assert "32 clients that ask without a pause, 16 lost" in page
    page = generated(empty, {**run, "rounds": 1, "seconds": 0.5, "figures": {"requests": figure}})
    assert "One round of 0.5 s; 2 cores" in page


# What the page says.


def rows(name: str) -> list[list[str]]:
    """The cells of a table, head first."""
    part = PAGE.partition(f"<!-- {name} -->")[2].partition("<!-- /")[0]
    found = [row.split(" | ") for row in re.findall(r"^\| ?(.+) \|$", part, re.MULTILINE)]
    return [row for row in found if set(row) != {"---"}]


def test_the_page_has_every_figure_of_everyone() -> None:
    head, *below = rows("figures")
    assert [name.strip(" |") for name in head if name.strip()] == [f"`{it}`" for it in COLUMNS]
    assert [row[0] for row in below] == [what for what, *_ in ROWS]
    assert all(f"| `{name}` |" in PAGE for name in COLUMNS), "each column is explained"


def test_how_many_rounds_of_how_many_seconds_is_told_once_under_the_table() -> None:
    part = PAGE.partition("<!-- figures -->")[2].partition("<!-- /")[0]
    assert re.search(r"^(Medians of \d+ rounds|One round) of [\d.]+ s; ", part, re.MULTILINE)
    said = re.findall(r"(?:\d+|one) rounds?\b.*|rounds? lasts?.*", PAGE, re.IGNORECASE)
    assert len(said) == 1


def test_the_page_tells_of_a_router_that_dies() -> None:
    part = PAGE.partition("<!-- death -->")[2].partition("<!-- /")[0]
    assert re.search(r"next answer within \d+ ms", part)


def test_the_page_has_every_aim() -> None:
    _, *below = rows("aims")
    assert [row[0] for row in below] == [aim.what for aim in AIMS]


def test_every_command_of_the_page_can_be_given() -> None:
    make = (ROOT / "Makefile").read_text("utf-8")
    words = re.findall(r"\bmake ([a-z-]+)", PAGE)
    assert words
    assert [word for word in words if not re.search(rf"^{word}:", make, re.MULTILINE)] == []
    help = subprocess.run(
        [sys.executable, "-m", "bench.relay", "--help"], check=True, capture_output=True, text=True
    )
    given = " ".join(re.findall(r"bench\.relay.*(?:\n .*)*", PAGE))
    options = set(re.findall(r" (--[a-z-]+)", given))
    assert options
    assert [option for option in options if option not in help.stdout] == []
    named = re.search(r"^`--only` takes (.+?), and", PAGE, re.MULTILINE)
    assert named is not None
    assert re.findall(r"`(\S+)`", named[1]) == [*FIGURES]


def test_the_documented_balancer_is_the_measured_one() -> None:
    assert BALANCER.format(port=8080, one=8081, two=8082) in PAGE


def test_every_aim_is_met_by_what_the_page_says() -> None:
    _, *below = rows("aims")
    missed = [row for aim, row in zip(AIMS, below, strict=True) if not aim.is_met_by(float(row[2]))]
    assert missed == []
