"""`ANY /engines/{model}/{path}`: serve this with that engine now, or not at all.

The engine's bytes go back untouched. A refusal is a 409 with `X-Swapyard-Refused`; an engine's own
409 never carries that header. `GET /engines/{model}/slots` only looks at the engine: nothing is
counted, and of its answer only what `shared/slots.py` lets pass goes on. An engine that is silent
to all its requests has stalled, whatever it says to those who only look.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from functools import lru_cache
from urllib.parse import quote

import structlog
from starlette.types import Receive, Scope, Send

from shared import keep_alive, slots
from shared.answer import Answer, ClientGone, read_body, while_client_stays
from shared.errors import (
    EngineFailed,
    EngineStalled,
    NotFound,
    NotSupported,
    SwapyardError,
)
from shared.headers import REQUEST_HEADERS, RESPONSE_HEADERS, WHOLE, Headers, header, only
from shared.wire import (
    BrokenOff,
    ConnectFailed,
    Deadlines,
    Origin,
    Pool,
    Response,
    Silent,
    WireError,
)
from sidecar.engines.launch import Launch
from sidecar.paths import SLOTS, is_inference, is_look, split
from sidecar.supervisor import Refused, Supervisor

MAX_BODY = 256 * 2**20  # bytes; what clients may send is limited by the router
# Shorter than the 5 s after which llama.cpp's server and uvicorn (vLLM) close an idle connection.
ENGINE_KEEPALIVE = 4.0
# Seconds: the end of an engine's process is seen within milliseconds of that of its port.
END_SEEN_WITHIN = 1.0
LOOK = 2.0  # seconds for a look at an engine: those who look (Hermes) wait no longer
LARGEST_LOOK = 16 * 2**20  # bytes; older engines show every slot's whole prompt

Asked = tuple[Origin, bytes, bytes, Headers, bytes, Deadlines]

log = structlog.get_logger()


class EngineProxy:
    """An ASGI application. `close` must be called at the end."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._pool = Pool(ENGINE_KEEPALIVE, self._is_ours)
        self._looks = Pool(ENGINE_KEEPALIVE, self._is_ours)

    def close(self) -> None:
        self._pool.close()
        self._looks.close()

    def _is_ours(self, origin: Origin) -> bool:
        """Where an engine has died, a stranger may have its port before we hear of it."""
        return self._supervisor.is_ours(origin.port)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = Answer(send)
        try:
            model, path = self._where(scope)
            if is_look(scope["method"], path):
                await self._look(model, scope, receive, answer)
            else:
                await self._serve(model, path, scope, receive, answer)
        except Refused as refused:
            await _refuse(answer, refused)
        except SwapyardError as error:
            await answer.fail(error)
        except ClientGone:
            pass

    def _where(self, scope: Scope) -> tuple[str, str]:
        path = scope["path_params"]["path"]
        found = split(path, self._supervisor.known)
        if found is None or not (is_inference(found[1]) or is_look(scope["method"], found[1])):
            raise NotFound(f"/engines/{path}")
        return found

    # A request of its own.

    async def _serve(
        self, model: str, path: str, scope: Scope, receive: Receive, answer: Answer
    ) -> None:
        router = header(scope, b"x-swapyard-router")
        kept = keep_alive.heard(header(scope, keep_alive.HEADER))
        with self._supervisor.admitted(model, router, kept) as launch:
            body = await read_body(scope, receive, MAX_BODY)
            target = quote(f"/{path}").encode()
            if scope["query_string"]:
                target = b"%b?%b" % (target, scope["query_string"])
            with while_client_stays(scope):
                await self._pass_on(model, launch, scope, target, body, answer)

    async def _pass_on(
        self, model: str, launch: Launch, scope: Scope, target: bytes, body: bytes, answer: Answer
    ) -> None:
        """One answer of the engine, or the error that it did not give one."""
        origin, ours, deadlines = _way(launch.port, launch.key, launch.silence)
        headers = [*only(scope["headers"], REQUEST_HEADERS), *ours]
        try:
            asked = (origin, scope["method"].encode(), target, headers, body, deadlines)
            with await self._send(model, launch, *asked) as response:
                await _relay(response, answer)
            self._supervisor.answered(model)
        except Silent as error:
            whole = header(scope, WHOLE) is not None
            if error.to_all and self._supervisor.stalled(model, launch, whole=whole):
                self._pool.give_up(origin, error.limit)
            await _fail(scope, answer, EngineStalled(error.limit))
        except WireError as error:
            await _fail(scope, answer, _died(error))

    async def _send(self, model: str, launch: Launch, *asked: *Asked) -> Response:
        """Once more, where an engine is found to take connections again."""
        try:
            return await self._pool.send(*asked)
        except ConnectFailed:
            await self._until_seen_to_have_ended(model)
            self._supervisor.unreachable(model, launch)
            self._supervisor.look(model)  # raises Refused
            return await self._pool.send(*asked)

    async def _until_seen_to_have_ended(self, model: str) -> None:
        """An engine that takes no connections any more has mostly just died, and never got the
        request: it is refused, and served by the next one. Returns if it lives on."""
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SEEN_WITHIN):
                async for _ in self._supervisor.status:
                    self._supervisor.look(model)  # raises Refused

    # A look at it.

    async def _look(self, model: str, scope: Scope, receive: Receive, answer: Answer) -> None:
        launch = self._supervisor.look(model)
        await read_body(scope, receive, 0)
        with while_client_stays(scope):
            said = await self._slots(launch)
        try:
            body = json.dumps(slots.shown(said)).encode()
        except ValueError:
            raise NotSupported(f"The engine of {model} does not show its slots.") from None
        await answer.whole(200, [(b"content-type", b"application/json")], body)

    async def _slots(self, launch: Launch) -> bytes:
        """Nothing, where the engine has no such path."""
        target = f"/{SLOTS}".encode()
        origin, ours, deadlines = _way(launch.port, launch.key, launch.silence)
        try:
            async with asyncio.timeout(LOOK):
                with await self._looks.send(
                    origin, b"GET", target, ours, b"", deadlines
                ) as response:
                    return (
                        await response.first_bytes(LARGEST_LOOK) if response.status < 300 else b""
                    )
        except TimeoutError:
            raise EngineStalled(LOOK) from None
        except WireError as error:
            raise _died(error) from None


@lru_cache(maxsize=256)
def _way(port: int, key: str, silence: float) -> tuple[Origin, Headers, Deadlines]:
    """To an engine; the same for all requests of a launch."""
    ours = [(b"authorization", f"Bearer {key}".encode()), (b"accept-encoding", b"identity")]
    return Origin("127.0.0.1", port), ours, Deadlines(first_byte=silence, idle=silence)


async def _relay(response: Response, answer: Answer) -> None:
    await answer.begin(response.status, only(response.headers, RESPONSE_HEADERS))
    while chunk := await response.read():
        await answer.chunk(chunk)
    if not response.framed and not answer.is_done:
        raise BrokenOff("it was closed before the stream's last event")
    await answer.end()


async def _fail(scope: Scope, answer: Answer, error: EngineFailed) -> None:
    """Here it is known why a stream ends as it does: its router passes on what it gets."""
    log.info(
        "failed", request=header(scope, b"x-request-id"), path=scope["path"], **error.for_log()
    )
    await answer.fail(error)


def _died(error: WireError) -> EngineFailed:
    return EngineFailed(f"The engine ended the connection: {error}", code="engine_died")


async def _refuse(answer: Answer, refused: Refused) -> None:
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"x-swapyard-refused", refused.reason.encode()),
    ]
    body = {"boot": refused.boot, "seq": refused.seq}
    await answer.whole(409, headers, json.dumps(body).encode())
