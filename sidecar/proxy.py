"""`ANY /engines/{model}/{path}`: serve this with that engine now, or not at all.

The engine's bytes go back untouched. A refusal is a 409 with `X-Swapyard-Refused`; an engine's own
409 never carries that header. `GET /engines/{model}/slots` only looks at the engine: nothing is
counted, and of its answer only what `shared/slots.py` lets pass goes on.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from urllib.parse import quote

import httpx
from starlette.types import Receive, Scope, Send

from shared import keep_alive, slots
from shared.errors import (
    EngineFailed,
    EngineStalled,
    NotFound,
    NotSupported,
    SwapyardError,
)
from shared.wire import (
    CONNECT_TIMEOUT,
    REQUEST_HEADERS,
    RESPONSE_HEADERS,
    Answer,
    ClientGone,
    Headers,
    client,
    first_bytes,
    header,
    only,
    read_body,
    while_client_stays,
)
from sidecar.engines.launch import Launch
from sidecar.paths import SLOTS, is_inference, is_look, split
from sidecar.supervisor import Refused, Supervisor

MAX_BODY = 256 * 2**20  # bytes; what clients may send is limited by the router
# Each request has a connection of its own: llama.cpp's server closes some right after an answer,
# and a request that was sent on one of those would be lost. On loopback a new one costs 0.1 ms.
ENGINE_KEEPALIVE = 0.0
LOOK = 2.0  # seconds for a look at an engine: those who look (Hermes) wait no longer
LARGEST_LOOK = 16 * 2**20  # bytes; older engines show every slot's whole prompt


class EngineProxy:
    """An ASGI application. `close` must be awaited at the end."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._client = client(ENGINE_KEEPALIVE)

    async def close(self) -> None:
        await self._client.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = Answer(send)
        try:
            model, path = self._where(scope)
            if is_look(scope["method"], path):
                await self._look(model, receive, answer)
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
            body = await read_body(receive, MAX_BODY)
            request = self._request(scope, body, path, launch)
            async with while_client_stays(receive):
                await self._pass_on(request, answer)

    def _request(self, scope: Scope, body: bytes, path: str, launch: Launch) -> httpx.Request:
        """Rebuilt, never copied."""
        url = httpx.URL(
            scheme="http",
            host="127.0.0.1",
            port=launch.port,
            path=quote(f"/{path}"),
            query=scope["query_string"] or None,
        )
        headers = only(scope["headers"], REQUEST_HEADERS)
        headers.append((b"authorization", f"Bearer {launch.key}".encode()))
        headers.append((b"accept-encoding", b"identity"))
        timeout = httpx.Timeout(CONNECT_TIMEOUT, read=launch.silence, write=None, pool=None)
        return self._client.build_request(
            scope["method"], url, headers=headers, content=body, timeout=timeout
        )

    async def _pass_on(self, request: httpx.Request, answer: Answer) -> None:
        """One answer of the engine, or the error that it did not give one."""
        try:
            response = await self._client.send(request, stream=True)
            async with aclosing(response):
                await answer.begin(
                    response.status_code, only(response.headers.raw, RESPONSE_HEADERS)
                )
                async for chunk in response.aiter_raw():
                    await answer.chunk(chunk)
            await answer.end()
        except httpx.ReadTimeout:
            silence: float = request.extensions["timeout"]["read"]
            await answer.fail(EngineStalled(silence))
        except httpx.HTTPError as error:
            await answer.fail(_died(error))

    # A look at it.

    async def _look(self, model: str, receive: Receive, answer: Answer) -> None:
        launch = self._supervisor.look(model)
        await read_body(receive, 0)
        async with while_client_stays(receive):
            said = await self._slots(launch)
        try:
            body = json.dumps(slots.shown(said)).encode()
        except ValueError:
            raise NotSupported(f"The engine of {model} does not show its slots.") from None
        await answer.whole(200, [(b"content-type", b"application/json")], body)

    async def _slots(self, launch: Launch) -> bytes:
        """Nothing, where the engine has no such path."""
        url = f"http://127.0.0.1:{launch.port}/{SLOTS}"
        headers = {"authorization": f"Bearer {launch.key}", "accept-encoding": "identity"}
        try:
            async with (
                asyncio.timeout(LOOK),
                self._client.stream("GET", url, headers=headers) as response,
            ):
                return await first_bytes(response, LARGEST_LOOK) if response.is_success else b""
        except TimeoutError:
            raise EngineStalled(LOOK) from None
        except httpx.HTTPError as error:
            raise _died(error) from None


def _died(error: httpx.HTTPError) -> EngineFailed:
    said = str(error) or type(error).__name__
    return EngineFailed(f"The engine ended the connection: {said}", code="engine_died")


async def _refuse(answer: Answer, refused: Refused) -> None:
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"x-swapyard-refused", refused.reason.encode()),
    ]
    body = {"boot": refused.boot, "seq": refused.seq}
    await answer.whole(409, headers, json.dumps(body).encode())
