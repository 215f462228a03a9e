"""What was seen -> the words of one cell, by comparison with what has to be.

Rule: no I/O; what is said of a client is said here, from what it did, and nowhere else. No counts
and no times: the same behaviour has the same words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.clients.cases import Seen
from bench.clients.programs import Answer

TEXT = "tok0 tok1 tok2 tok3"
BEFORE_THE_CRASH = "tok0 tok1 tok2"
REASON = "crashed half-way through the load"  # the engine's last words
FOREIGN = ("status",)  # for dashboards: a client of OpenAI's protocol need not understand it


@dataclass(frozen=True)
class Cell:
    words: str
    as_it_should: bool = True
    details: str = ""  # of what is not as it should be


def judge(case: str, dialect: str, seen: Seen) -> Cell:
    if seen.answer is None:
        return wrong("comes to no end")
    return JUDGES[case](dialect, seen, seen.answer)


def warm(dialect: str, seen: Seen, answer: Answer) -> Cell:
    if answer.told or answer.reasoning:
        return wrong("told of a load that was none", answer.reasoning)
    return whole_text(dialect, answer)


def cold(dialect: str, seen: Seen, answer: Answer) -> Cell:
    if answer.reasoning and "reasoning" not in dialect:
        return wrong("reasoning that nobody has sent", answer.reasoning)
    cell = whole_text(dialect, answer)
    return Cell(f"{cell.words}, {shown(answer)}") if cell == OK else cell


def whole_text(dialect: str, answer: Answer) -> Cell:
    if answer.error:
        return unlike(dialect, raised(answer), message(answer))
    if answer.text != TEXT:
        return unlike(dialect, "another text" if answer.text else "no text", repr(answer.text))
    return OK


def shown(answer: Answer) -> str:
    """What its user could see of the load."""
    what = {"`model_switching`": answer.told, "reasoning": answer.reasoning}
    return " and ".join(name for name, seen in what.items() if seen) or "nothing shown"


def load_fails(dialect: str, seen: Seen, answer: Answer) -> Cell:
    if not answer.error:
        return wrong("ends as if it were done", repr(answer.text))
    if REASON not in message(answer) and dialect not in FOREIGN:
        return wrong(f"{raised(answer)} without the reason", message(answer))
    return Cell(raised(answer) + (f", after {seen.loads} loads" if seen.loads > 1 else ""))


def engine_dies(dialect: str, seen: Seen, answer: Answer) -> Cell:
    if not answer.error:
        return wrong("ends as if it were done", repr(answer.text))
    if answer.text == BEFORE_THE_CRASH:
        return Cell(f"{raised(answer)}, text kept")
    return unlike(dialect, f"{raised(answer)}, text lost", repr(answer.text))


def leaves(dialect: str, seen: Seen, answer: Answer) -> Cell:
    if not answer.left:
        return unlike(dialect, f"{raised(answer)} before it leaves", message(answer))
    return wrong("leaves something behind", seen.left_behind) if seen.left_behind else OK


def raised(answer: Answer) -> str:
    if not answer.error:
        return "no exception"
    code = answer.error["code"]
    return f"raises `{answer.error['type']}`" + (f" `{code}`" if code else "")


def message(answer: Answer) -> str:
    return str(answer.error["message"]) if answer.error else ""


def unlike(dialect: str, words: str, details: str) -> Cell:
    return Cell(words) if dialect in FOREIGN else wrong(words, details)


def wrong(words: str, details: str = "") -> Cell:
    return Cell(f"**FAIL** {words}", as_it_should=False, details=details)


OK = Cell("ok")
JUDGES: dict[str, Callable[[str, Seen, Answer], Cell]] = {
    "warm": warm,
    "cold": cold,
    "load fails": load_fails,
    "engine dies": engine_dies,
    "leaves while it loads": leaves,
    "leaves in mid-answer": leaves,
}
