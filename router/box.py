"""The HTTP client of one sidecar: its catalogue and events in, this router's demand out."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Iterable

import httpx
import structlog

from router.config import Sidecar
from router.dispatch import Dispatch
from router.peer import bearer
from shared import control, sse
from shared.demand import TTL, Demand
from shared.heart import Undecided
from shared.status import Catalogue, Status

HEARTBEATS_MISSED = 6.0  # seconds of silence: three heartbeats
ANSWER = 5.0  # seconds for a short answer of the control plane
FIRST_RETRY, LAST_RETRY = 0.1, 5.0  # seconds, doubling
OFF = "it cannot be reached, as it may be: it is optional"  # no cause for alarm
# Seconds: longer than any of a box's two tasks waits for its box, answers and pauses together.
WITHIN = 30.0
HEALTHY = 10.0  # seconds of events after which the next loss is a new one

log = structlog.get_logger()


async def follow(sidecars: Iterable[Sidecar], dispatch: Dispatch) -> None:
    """Follow every box, until cancelled."""
    async with control.client() as http, asyncio.TaskGroup() as group:
        for sidecar in sidecars:
            group.create_task(BoxClient(sidecar, dispatch, http).run())


class BoxClient:
    def __init__(self, config: Sidecar, dispatch: Dispatch, http: httpx.AsyncClient) -> None:
        self._url = config.url
        self._optional = config.optional
        self._dispatch = dispatch
        self._http = http
        self._headers = bearer(config)
        self._boot = ""
        self._seq = 0
        self._troubles: dict[str, str] = {}  # that were logged: what does not work, and why
        self._told: object = None  # what the last message was about; None: none was heard
        self._changed = asyncio.Event()
        dispatch.watch_demand(self._url, self._changed.set)

    async def run(self) -> None:
        """Until cancelled: follow the box, and tell it what is wanted."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._demand())

    # What the box says.

    async def _follow(self) -> None:
        loop, delay = asyncio.get_running_loop(), FIRST_RETRY
        while True:
            began, silent = loop.time(), False
            self._dispatch.heart.saw(f"events of {self._url}", WITHIN)
            try:
                await self._events()
                why = OFF if self._optional else "it ended the stream of events"
            except httpx.HTTPStatusError as error:
                why = self._plainly(error.response.status_code)
            except (httpx.HTTPError, ValueError, sse.EventTooLarge) as error:
                silent = isinstance(error, httpx.TimeoutException)
                is_off = self._optional and isinstance(error, httpx.TransportError)
                why = OFF if is_off else str(error) or type(error).__name__
            except Undecided:  # it may have said what was not understood: all is heard anew
                self._boot, why = "", "this router has a fault: its log and /healthz say more"
            self._failed("events", why)
            with contextlib.suppress(Undecided):
                self._dispatch.lost(self._url, why, silent=silent)
            if loop.time() - began > HEALTHY:
                delay = FIRST_RETRY
            await asyncio.sleep(delay * random.uniform(0.5, 1))
            delay = min(LAST_RETRY, delay * 2)

    async def _events(self) -> None:
        """Returns when the box ends the stream; raises when it is lost."""
        timeout = httpx.Timeout(ANSWER, read=HEARTBEATS_MISSED)
        async with self._http.stream(
            "GET", f"{self._url}/models/events", headers=self._headers, timeout=timeout
        ) as response:
            response.raise_for_status()
            self._troubles.pop("events", None)
            self._told = None  # it may have forgotten, or be a new one
            self._changed.set()
            decoder = sse.Decoder()
            async for chunk in response.aiter_raw():
                self._dispatch.heart.saw(f"events of {self._url}", WITHIN)
                for event in decoder.feed(chunk):
                    await self._hear(Status.from_json(event.data))

    async def _hear(self, status: Status) -> None:
        if status.boot != self._boot:
            response = await self._http.get(f"{self._url}/models", headers=self._headers)
            response.raise_for_status()
            self._dispatch.knows(self._url, Catalogue.from_json(response.content))
            self._boot = status.boot
            log.info("box heard", url=self._url, box=status.box, boot=status.boot)
        self._dispatch.heard(self._url, status)

    # What it is asked for.

    async def _demand(self) -> None:
        """One message at a time, when demand changes and in time before the last one expires;
        what changes meanwhile goes in the next."""
        while True:
            repeat_at = asyncio.get_running_loop().time() + TTL / 3
            about = f"demand for {self._url}"
            self._dispatch.heart.saw(about, WITHIN)
            try:
                with self._dispatch.heart.deciding(about):
                    await self._tell_demand(repeat_at)
            except Undecided:
                await asyncio.sleep(TTL / 3)

    async def _tell_demand(self, repeat_at: float) -> None:
        self._told = self._dispatch.line.demand_key(self._url)
        await self._put()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(repeat_at):
                await self._until_told_is_old()

    async def _until_told_is_old(self) -> None:
        while self._told == self._dispatch.line.demand_key(self._url):
            self._changed.clear()
            await self._changed.wait()

    async def _put(self) -> None:
        self._seq += 1
        now = time.monotonic()
        models = self._dispatch.line.demand(self._url, now)
        demand = Demand(v=1, seq=self._seq, ttl_s=TTL, models=models)
        # A box that does not answer is the event stream's to notice; the next message repairs it.
        with contextlib.suppress(httpx.HTTPError):
            response = await self._http.put(
                f"{self._url}/demand/{self._dispatch.id}",
                content=demand.to_json(),
                headers={**self._headers, "content-type": "application/json"},
                timeout=ANSWER,
            )
            if response.is_success:
                self._troubles.pop("demand", None)
            else:
                self._failed("demand", self._plainly(response.status_code))

    # What is said of it.

    def _failed(self, what: str, why: str) -> None:
        """Said once for each reason, although it is tried again and again."""
        if why not in self._troubles.values():
            tell = log.info if why == OFF else log.warning
            tell("trouble with a box", url=self._url, why=why)
        self._troubles[what] = why

    def _plainly(self, status: int) -> str:
        match status:
            case 401 if not self._headers:
                return "the box wants a key: give it one, as `key` of this box in `sidecars`"
            case 401:
                return (
                    "the box does not take this router's key: see `key` of this box in `sidecars`"
                )
            case 403:
                return "this router's key needs the scopes inference and read at the box"
        return f"it answers with status {status}"
