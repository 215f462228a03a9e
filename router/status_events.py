"""The dialect `status`: routing, loading, generating, done, for dashboards.

Rule 1: the engine's own stream is read here and told anew, each piece as it comes; `done` only
when the engine has said that it is done. The whole text is kept until then, since `done` repeats
it.
Rule 2: this file does no I/O, reads no clock and never awaits.

`error` and `timeout` carry the error object as well, so that a client of OpenAI's raises on them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from io import StringIO
from typing import Any

from router.failures import engine_failed
from router.voice import Stream, Told, Voice, is_served
from shared import sse
from shared.errors import EngineFailed, SwapyardError
from shared.status import Step

LONGEST_CONTENT = 16 * 2**20  # characters that `done` repeats: megabytes of text are no answer
DONE = b"data: [DONE]\n\n"
# Steps of those whose model nobody loads yet, or any more.
NOT_LOADING = (Step.AWAITING_TURN, Step.AWAITING_SLOT, Step.AWAITING_BOX)
# Codes, and causes of a load that failed, that `timeout` tells.
TOO_LONG = ("queue_timeout", "engine_stalled", "timeout", "stalled")
# What a piece of an engine may not say in our place; its role is nothing that a dashboard needs.
OURS = ("content", "role", "delta", "status", "message", "timestamp")


class StatusEvents(Voice):
    talks = True
    needs_usage = True

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self._decoder = sse.Decoder()
        self._content = StringIO()
        self._usage: Any = None
        self._finish_reason: Any = None
        self._begun = False  # there was a piece of an answer, if an empty one
        self._done = False  # the engine has said that this was all
        self._by: dict[str, Any] = {}  # model and backend, once they are known

    # While it waits.

    def opens(self, at: float) -> bytes:
        return event("routing", "Selecting backend...", at)

    def tells(self, told: Told, at: float) -> bytes:
        if is_served(told):
            self._by = {"model": told["model"], "backend": told["box"]}
            return event("generating", "Generating response...", at, **self._by)
        if told["step"] in NOT_LOADING:
            said = f"{told['step'].capitalize()}..."
            return event("routing", said, at, model=told["model"], position=told["position"])
        return self._loading(told, at)

    def _loading(self, told: Told, at: float) -> bytes:
        eta = told["eta_s"]
        return event(
            "loading",
            "Warming up model...",
            at,
            model=told["model"],
            backend=told["box"],
            phase=told["phase"],
            step=told["step"],
            estimated_time=None if eta is None else math.ceil(eta),
            progress=told["progress"],
            position=told["position"],
        )

    # While it is answered.

    def answers(self, chunk: bytes, at: float) -> Iterator[bytes]:
        try:
            events = self._decoder.feed(chunk)
        except sse.EventTooLarge as error:
            raise EngineFailed(str(error), code="event_too_large") from None
        for said in events:
            if piece := self._answer(said.data, at):
                yield piece

    def _answer(self, data: str, at: float) -> bytes:
        if data == "[DONE]":
            self._done = True
            return b""
        match parsed(data):
            case {"error": why} if why:
                raise engine_failed(why)
            case {"object": "error", **whole}:  # vLLM's older shape
                raise engine_failed(whole)
            case {"choices": [*choices], **more}:
                self._usage = more.get("usage") or self._usage
                return self._first(choices, at)
        return b""

    def _first(self, choices: list[Any], at: float) -> bytes:
        """Of several answers the first one is told; the last chunk has none."""
        for choice in choices:
            match choice:
                case {"index": index} if index != 0:
                    continue
                case dict():
                    return self._piece(choice, at)
        return b""

    def _piece(self, choice: dict[str, Any], at: float) -> bytes:
        """Whatever it says beside its text is told under its own name."""
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else {"content": choice.get("text")}
        self._begun = True
        self._finish_reason = choice.get("finish_reason") or self._finish_reason
        text = delta.get("content")
        text = text if isinstance(text, str) else ""
        more = {k: v for k, v in delta.items() if v and k not in OURS}
        if not text and not more:
            return b""
        self._keep(text)
        return event("generating", "Generating response...", at, delta=text, **more)

    def _keep(self, text: str) -> None:
        if self._content.tell() + len(text) > LONGEST_CONTENT:
            said = f"The answer is longer than {LONGEST_CONTENT} characters."
            raise EngineFailed(said, code="event_too_large")
        self._content.write(text)

    # The end.

    def ends(self, at: float) -> bytes:
        whole = self._done or self._finish_reason is not None
        if not (self._begun and whole):
            said = "The engine ended its answer before it was whole."
            raise EngineFailed(said, code="engine_died")
        done = event(
            "done",
            "Done.",
            at,
            content=self._content.getvalue(),
            **self._by,
            finish_reason=self._finish_reason,
            usage=self._usage,
        )
        return done + DONE

    def fails(self, error: SwapyardError, at: float) -> bytes:
        late = error.code in TOO_LONG or error.more.get("cause") in TOO_LONG
        said = json.loads(error.body())
        word = "timeout" if late else "error"
        return event(word, error.message, at, code=error.code, **self._by, **said)


def event(status: str, message: str, at: float, **more: Any) -> bytes:
    data = {"status": status, "message": message, "timestamp": round(at, 3), **more}
    return sse.encode(sse.Event(json.dumps(data)))


def parsed(data: str) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        raise EngineFailed("The engine's stream is not JSON.", code="engine_error") from None
