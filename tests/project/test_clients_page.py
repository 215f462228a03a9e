"""The page of clients is complete, and what goes wrong with a client is called so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.clients.cases import CASES, Seen
from bench.clients.programs import CLIENTS, Answer
from bench.clients.verdict import BEFORE_THE_CRASH, FOREIGN, REASON, TEXT, judge
from router.progress import DIALECTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "clients.md"
NAMES = [client.name for client in CLIENTS]
ROW = re.compile(r"^\| (.+) \|$", re.MULTILINE)


def rows(part: str) -> list[list[str]]:
    """The cells of a table, head first, without the line of dashes."""
    found = [row.split(" | ") for row in ROW.findall(part)]
    return [row for row in found if set(row) != {"---"}]


def generated(part: str) -> str:
    text = PAGE.read_text(encoding="utf-8")
    return text.partition(f"<!-- {part} -->")[2].partition(f"<!-- /{part} -->")[0]


@pytest.mark.parametrize("part", ["at a glance", "clients"])
def test_the_page_has_every_client(part: str) -> None:
    _, *below = rows(generated(part))
    assert [row[0] for row in below] == NAMES


def test_the_summary_has_every_dialect() -> None:
    head, *below = rows(generated("at a glance"))
    assert head == ["client", *(f"`{dialect}`" for dialect in DIALECTS)]
    assert all(len(row) == len(head) for row in below)


@pytest.mark.parametrize("name", NAMES)
def test_every_client_has_a_cell_for_every_dialect_and_case(name: str) -> None:
    section = generated("cells").partition(f"### {name}\n")[2].partition("\n### ")[0]
    head, *below = rows(section)
    assert head == ["dialect", *CASES]
    assert [row[0] for row in below] == [f"`{dialect}`" for dialect in DIALECTS]
    assert all(len(row) == len(head) and all(row) for row in below)


def test_what_is_not_as_it_should_be_is_listed() -> None:
    failures = [cell for row in rows(generated("cells")) for cell in row if "**FAIL**" in cell]
    assert generated("unexpected").count("**FAIL**") == len(failures)


# What is called wrong.


def seen(
    text: str = "", *, reasoning: str = "", message: str = "", left: bool = False, behind: str = ""
) -> Seen:
    error = {"type": "Error", "message": message, "code": None} if message else None
    return Seen(Answer(text, reasoning, told=0, left=left, error=error), left_behind=behind)


RIGHT = {
    "warm": seen(TEXT),
    "cold": seen(TEXT),
    "load fails": seen(message=REASON),
    "engine dies": seen(BEFORE_THE_CRASH, message="died"),
    "leaves while it loads": seen(left=True),
    "leaves in mid-answer": seen(BEFORE_THE_CRASH, left=True),
}
WRONG = {
    "warm": [seen(""), seen(TEXT, reasoning="loads"), seen(TEXT, message="died")],
    "cold": [seen("tok0"), seen(TEXT, reasoning="loads"), seen(message="died")],
    "load fails": [seen(), seen(message="an error")],
    "engine dies": [seen(BEFORE_THE_CRASH), seen(message="died")],
    "leaves while it loads": [seen(TEXT), seen(left=True, behind="1 in line")],
    "leaves in mid-answer": [seen(TEXT), seen(left=True, behind="1 in flight")],
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_right_is_told_from_what_is_wrong(case: str) -> None:
    assert judge(case, "events", RIGHT[case]).as_it_should
    assert not [wrong for wrong in WRONG[case] if judge(case, "events", wrong).as_it_should]
    assert not judge(case, "events", Seen(None)).as_it_should


@pytest.mark.parametrize("case", ["load fails", "engine dies"])
def test_no_dialect_may_make_a_failure_look_like_an_answer(case: str) -> None:
    assert [d for d in DIALECTS if judge(case, d, seen(TEXT)).as_it_should] == []


def test_only_a_dialect_that_is_there_is_foreign() -> None:
    assert set(FOREIGN) < set(DIALECTS)
