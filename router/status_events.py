"""The dialect `status`: routing, loading, generating, done, for dashboards.

Rule 1: the engine's own stream is read here and told anew, each piece as it comes; `done` only
when the engine has said that it is done.
Rule 2: this file does no I/O, reads no clock and never awaits.

`error` and `timeout` carry the error object as well, so that a client of OpenAI's raises on them.
"""

from __future__ import annotations

import json
import math
from typing import Any

from router.voice import Stream, Told, Voice, is_served
from shared import sse
from shared.errors import EngineFailed, SwapyardError
from shared.status import Phase

LONGEST_CONTENT = 16 * 2**20  # characters that `done` repeats: megabytes of text are no answer
DONE = b"data: [DONE]\n\n"
TOO_LONG = ("queue_timeout", "engine_stalled")  # codes of what `timeout` tells; and by its cause:
TIMEOUT = "timeout"


class StatusEvents(Voice):
    talks = True
    needs_usage = True

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self._decoder = sse.Decoder()
        self._content: list[str] = []
        self._length = 0
        self._usage: Any = None
        self._finish_reason: Any = None
        self._whole = False  # the engine has said that this was all
        self._failed = False
        self._by: dict[str, Any] = {}  # model and backend, once they are known

    # While it waits.

    def opens(self, at: float) -> bytes:
        return event("routing", "Selecting backend...", at)

    def tells(self, told: Told, at: float) -> bytes:
        if is_served(told):
            self._by = {"model": told["model"], "backend": told["box"]}
            return event("generating", "Generating response...", at, **self._by)
        if told["phase"] == Phase.READY:
            return event("routing", "Waiting for a slot...", at, position=told["position"])
        if told["box"] is None:
            return event("routing", "Selecting backend...", at, position=told["position"])
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

    def answers(self, chunk: bytes, at: float) -> bytes:
        try:
            events = self._decoder.feed(chunk)
        except sse.EventTooLarge as error:
            raise EngineFailed(str(error), code="event_too_large") from None
        return b"".join(self._answer(e.data, at) for e in events if not self._failed)

    def _answer(self, data: str, at: float) -> bytes:
        if data == "[DONE]":
            self._whole = True
            return b""
        match said(data):
            case {"error": {"message": message, **more}}:
                error = EngineFailed(str(message), code=str(more.get("code") or "engine_error"))
                return self.fails(error, at)
            case {"choices": [dict() as choice, *_], **more}:
                self._usage = more.get("usage") or self._usage
                return self._piece(choice, at)
            case {"usage": usage}:  # the last chunk has no choice
                self._usage = usage or self._usage
        return b""

    def _piece(self, choice: dict[str, Any], at: float) -> bytes:
        """Of the first choice. Whatever it says beside its text is told under its own name."""
        delta = choice.get("delta") or {"content": choice.get("text")}
        self._finish_reason = choice.get("finish_reason") or self._finish_reason
        text = delta.get("content") or ""
        more = {k: v for k, v in delta.items() if v and k not in ("content", "role")}
        if not text and not more:
            return b""
        self._keep(text)
        return event("generating", "Generating response...", at, delta=text, **more)

    def _keep(self, text: str) -> None:
        self._length += len(text)
        if self._length > LONGEST_CONTENT:
            said = f"The answer is longer than {LONGEST_CONTENT} characters."
            raise EngineFailed(said, code="event_too_large")
        self._content.append(text)

    # The end.

    def ends(self, at: float) -> bytes:
        if self._failed:
            return b""
        if not self._whole and self._finish_reason is None:
            early = "The engine ended its answer before it was whole."
            return self.fails(EngineFailed(early, code="engine_died"), at)
        done = event(
            "done",
            "Done.",
            at,
            content="".join(self._content),
            **self._by,
            finish_reason=self._finish_reason,
            usage=self._usage,
        )
        return done + DONE

    def fails(self, error: SwapyardError, at: float) -> bytes:
        self._failed = True
        late = error.code in TOO_LONG or error.more.get("cause") == TIMEOUT
        status, said = TIMEOUT if late else "error", json.loads(error.body())
        return event(status, error.message, at, code=error.code, **self._by, **said)


def event(status: str, message: str, at: float, **more: Any) -> bytes:
    data = {"status": status, "message": message, "timestamp": round(at, 3), **more}
    return sse.encode(sse.Event(json.dumps(data)))


def said(data: str) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        raise EngineFailed("The engine's stream is not JSON.", code="engine_error") from None
