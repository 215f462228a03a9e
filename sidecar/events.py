"""`GET /models/events`: the Status, whenever it changes. It is made into bytes once for all."""

from __future__ import annotations

import time

from starlette.types import Receive, Scope, Send

from shared import watchers
from shared.sse import Event, comment, encode
from shared.status import Status
from sidecar.supervisor import Supervisor

HEARTBEAT = 2.0  # seconds; a watcher that misses three takes the box for lost
BEAT = comment("here")


class Events:
    """An ASGI application."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._of: Status | None = None
        self._event = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._supervisor.publish()
        watcher, watched = _Watcher(self), self._supervisor.status
        await watchers.tell(watcher, watched, scope, receive, send)

    def newest(self) -> Status:
        return self._supervisor.status.value

    def event(self, status: Status) -> bytes:
        if status is not self._of:
            text, id = status.to_json().decode(), f"{status.boot}:{status.seq}"
            self._of, self._event = status, encode(Event(text, "status", id))
        return self._event


class _Watcher:
    def __init__(self, events: Events) -> None:
        self._events = events
        self._told: Status | None = None
        self.deadline = time.monotonic() + HEARTBEAT

    def news(self, now: float) -> bytes:
        status, beat = self._events.newest(), b""
        if now >= self.deadline:
            self.deadline, beat = now + HEARTBEAT, BEAT
        if status is self._told:
            return beat
        self._told = status
        return beat + self._events.event(status)
