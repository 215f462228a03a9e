"""What clients asked and how it ended: each request has exactly one end, and no byte is wrong.

Rule: no I/O and no clock. A request is an operation with a nonce in its prompt; it is invoked, and
ends `ok` (a whole answer), `fail` (one error that may be) or `info` (nobody can know: the client
left, or the way to it was broken on purpose at that time). Everything else is a breach.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Literal

End = Literal["ok", "fail", "info"]
# Of a router or of the way to it. `broken`: who asks may hear nothing more; `refusing`: who begins
# to ask; `closing`: to whom it has not begun to answer.
Trouble = Literal["broken", "refusing", "closing"]
Expected = Callable[["Asked"], str]

# The codes with which a request may end while things are broken on purpose, and their status
# where nothing else was said before.
MAY_FAIL: Mapping[str, int] = {
    "load_failed": 503,
    "box_unreachable": 503,
    "shutting_down": 503,  # of a router that was told to end
    "queue_timeout": 504,
    "engine_died": 502,
    "engine_stalled": 504,
}
TOLD = 12  # of the newest faults, with each breach
SOON = 3.0  # seconds after a break in which a client hears of it, on a machine that does much else


@dataclass(frozen=True, slots=True)
class Asked:
    nonce: str
    model: str
    front: str  # the router that was asked
    tokens: int
    stream: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """What came back, as it came."""

    status: int = 0  # 0: no answer had begun
    text: str = ""
    dones: int = 0
    errors: tuple[str, ...] = ()  # their codes
    more: bool = False  # something came after what should have been the end
    # As far as HTTP knows.
    how: Literal["whole", "broken", "left", "late", "unreadable"] = "whole"
    where: str = ""  # what it was told last

    @property
    def ends(self) -> int:
        return self.dones + len(self.errors)


@dataclass(frozen=True, slots=True)
class Breach:
    what: str
    nonce: str  # of the request, or which box or program it is
    at: float
    detail: str
    faults: tuple[str, ...]  # the newest before it


@dataclass(slots=True)
class _Open:
    """`troubled`, `closing`: until when it may hear nothing more of either, if it met such."""

    asked: Asked
    troubled: float = 0.0
    closing: float = 0.0

    def meets(self, trouble: Trouble, until: float) -> None:
        if trouble == "closing":
            self.closing = max(self.closing, until)
        else:
            self.troubled = max(self.troubled, until)

    def ends_by(self, now: float) -> None:
        """What it met is over."""
        self.troubled, self.closing = min(self.troubled, now), min(self.closing, now)

    def resumes(self, now: float) -> None:
        """What it was to hear was held up."""
        self.troubled = max(self.troubled, now) if self.troubled else 0.0
        self.closing = max(self.closing, now) if self.closing else 0.0

    def may_be_silent(self, seen: Seen, now: float) -> bool:
        if seen.how not in ("broken", "whole"):
            return False
        return now <= self.troubled or (now <= self.closing and not seen.status)


@dataclass
class History:
    expected: Expected
    breaches: list[Breach] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    excused: int = 0  # that heard nothing more, where that may be
    _open: dict[str, _Open] = field(default_factory=dict)
    _troubles: dict[str, list[Trouble]] = field(default_factory=dict)  # by front: those that last
    _faults: deque[str] = field(default_factory=lambda: deque(maxlen=TOLD))

    # What happens.

    def invoke(self, asked: Asked, now: float) -> None:
        if asked.nonce in self._open:
            self.breach("two of one nonce", asked.nonce, now, repr(asked))
        operation = self._open[asked.nonce] = _Open(asked)
        for trouble in self._troubles.get(asked.front, ()):
            operation.meets(trouble, inf)
        self.asked += 1

    def end(self, nonce: str, seen: Seen, now: float) -> None:
        operation = self._open.pop(nonce, None)
        if operation is None:
            self.breach("more than one end", nonce, now, repr(seen))
            return
        end, wrong = self._judge(operation, seen, now)
        self.ends[_kind(end, seen)] += 1
        if wrong:
            self.breach(wrong, nonce, now, f"{operation.asked} {seen}")

    def troubled(self, front: str, trouble: Trouble) -> None:
        """It holds for those who ask this router from now until `well`, and if it does not only
        refuse, for those who have asked."""
        self._troubles.setdefault(front, []).append(trouble)
        if trouble != "refusing":
            for operation in self._of(front):
                operation.meets(trouble, inf)

    def well(self, front: str, trouble: Trouble, now: float) -> None:
        lasting = self._troubles[front]
        lasting.remove(trouble)
        if not lasting:
            for operation in self._of(front):
                operation.ends_by(now + SOON)

    def healed(self, front: str, now: float) -> None:
        """What was held up on the way to those who asked there arrives from now on: also that the
        other side has gone meanwhile."""
        for operation in self._of(front):
            operation.resumes(now + SOON)

    def _of(self, front: str) -> list[_Open]:
        return [operation for operation in self._open.values() if operation.asked.front == front]

    def fault(self, what: str, now: float) -> None:
        self._faults.append(f"{now:.2f} {what}")

    def close(self, now: float) -> None:
        """Nobody asks any more, and all should have ended."""
        for nonce, operation in self._open.items():
            self.breach("no end", nonce, now, repr(operation.asked))
        self._open.clear()

    def breach(self, what: str, nonce: str, now: float, detail: str) -> None:
        """Once each: what stays wrong would be found at each look."""
        if any((it.what, it.nonce, it.detail) == (what, nonce, detail) for it in self.breaches):
            return
        self.breaches.append(Breach(what, nonce, now, detail, tuple(self._faults)))

    @property
    def open(self) -> int:
        return len(self._open)

    # What is thought of it.

    def _judge(self, operation: _Open, seen: Seen, now: float) -> tuple[End, str]:
        """The kind of its end, and what is wrong with it, if anything is."""
        asked, text = operation.asked, self.expected(operation.asked)
        if not text.startswith(seen.text):
            return "info", self._whose(asked, seen.text)
        if seen.ends > 1 or seen.more:
            return "info", "more than one end"
        if seen.how == "unreadable":
            return "info", "an unreadable answer"
        if seen.errors:
            return "fail", _error(operation, seen)
        if seen.how == "left":
            return "info", ""
        if seen.dones or (seen.how == "whole" and not asked.stream and seen.status == 200):
            return "ok", "" if seen.text == text else "an end before the end"
        if operation.may_be_silent(seen, now):
            self.excused += 1
            return "info", ""
        wrong = {"late": "no end in time", "broken": "broken off", "whole": "silent truncation"}
        return "info", wrong[seen.how]

    def _whose(self, asked: Asked, text: str) -> str:
        for other in self._open.values():
            if other.asked.nonce != asked.nonce and self.expected(other.asked).startswith(text):
                return "another's answer"
        return "wrong bytes"


def _error(operation: _Open, seen: Seen) -> str:
    (code,), asked = seen.errors, operation.asked
    if code not in MAY_FAIL or (code == "shutting_down" and not operation.closing):
        return f"an error that may not be: {code}"
    plain = not asked.stream or seen.status != 200
    return "an error with another's status" if plain and seen.status != MAY_FAIL[code] else ""


def _kind(end: End, seen: Seen) -> str:
    match end:
        case "ok":
            return "ok"
        case "fail":
            return f"fail: {seen.errors[0]}"
        case "info" if seen.how == "left":
            return f"left: {seen.where or 'unheard'}"
    return f"info: {seen.how}"
