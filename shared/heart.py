"""What keeps a program deciding: its core's deadline, and a loop that is watched while it turns.

A decision that ends in an exception is logged once with its stack, told by `/healthz`, and tried
again. A loop that stands still cannot tell, so a thread does: it logs what the loop is at. What
counts as well is `pulse.py`'s to say.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import structlog

from shared.alarm import Alarm
from shared.pulse import Lags, Pulse

AGAIN = 1.0  # seconds from a failed decision to the next try
BEAT = 0.25  # seconds between two looks at how late the loop is
STANDS = 2.0  # seconds without a turn of the loop: an eye sees it, three heartbeats bear it
DUE = "what is due"
FRAMES = 40  # of a stack that are logged

log = structlog.get_logger()


class Undecided(Exception):
    """A decision has failed, by a fault of ours: that was logged, and is told by `/healthz`."""


class Heart:
    """`decide` is called at each moment that `alarm` was set to; from `start` to `stop` the loop is
    watched."""

    def __init__(self, decide: Callable[[], None]) -> None:
        self._decide = decide
        self.alarm = Alarm(self._ring)
        self.pulse = Pulse()
        self._lags = Lags()
        self._turned = time.monotonic()
        self._beat: asyncio.TimerHandle | None = None
        self._over = threading.Event()

    # Decisions.

    @contextmanager
    def deciding(self, about: str = DUE) -> Iterator[None]:
        """Around what decides. Raises Undecided if that fails, which `/healthz` tells until the
        next decision about the same is made. What is due is decided in a moment, then."""
        try:
            yield
        except Undecided:  # in there, and told already
            raise
        except Exception as error:
            self._failed(about, error)
            raise Undecided from error
        self.pulse.decided(about)

    def saw(self, what: str, again_within: float) -> None:
        self.pulse.saw(what, time.monotonic(), again_within)

    @property
    def trouble(self) -> str | None:
        now = time.monotonic()
        if now > self._turned + STANDS:  # we are asked in the first moment after that
            self.pulse.woke(now)
        return self.pulse.trouble(self.alarm.at, now)

    def _ring(self) -> None:
        with suppress(Undecided), self.deciding():
            self._decide()

    def _failed(self, about: str, error: Exception) -> None:
        first = _first(error)
        if self.pulse.failed(about, f"{type(first).__name__} {_place(first)}"):
            log.error("a decision has failed", about=about, exc_info=error)
        self.alarm.set(time.monotonic() + AGAIN)

    # The loop.

    @property
    def lag(self) -> float:
        """How late the loop was at most in the last minute, in seconds."""
        return max(self._lags.worst(time.monotonic()), time.monotonic() - self._turned - BEAT)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._turned = time.monotonic()
        self._beat = self._loop.call_later(BEAT, self._turn)
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        self._over.set()
        self.alarm.cancel()
        if self._beat is not None:
            self._beat.cancel()

    def _turn(self) -> None:
        now = time.monotonic()
        stood = now - self._turned
        self._turned = now
        self._lags.add(max(0.0, stood - BEAT), now)
        if stood > STANDS:
            self.pulse.woke(now)
            log.warning("the event loop turns again", stood_s=round(stood, 3))
        self._beat = self._loop.call_later(BEAT, self._turn)

    def _watch(self) -> None:
        """In a thread of its own."""
        told = looked = self._turned
        while not self._over.wait(BEAT):
            now, turned = time.monotonic(), self._turned
            was_awake, looked = now - looked < STANDS / 2, now
            # Of a process that was frozen itself nothing is to be seen but what it does now.
            if was_awake and now - turned > STANDS and turned != told:
                told = turned
                log.error("the event loop stands still", at=self._stack())

    def _stack(self) -> list[str]:
        """Of the loop's thread, the innermost last: places in files, and nothing of what they
        hold."""
        frame, places = sys._current_frames().get(self._watched), list[str]()
        while frame is not None and len(places) < FRAMES:
            places.append(_where(frame))
            frame = frame.f_back
        return places[::-1]


def _where(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"


def _first(error: BaseException) -> BaseException:
    """What it came of."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _place(error: BaseException) -> str:
    """Where it was raised. What it says may come from outside."""
    trace = error.__traceback__
    assert trace is not None, "it was raised"
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return f"in {code.co_name}, {code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
