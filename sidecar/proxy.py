"""`ANY /engines/{model}/{path}`: serve this with that engine now, or not at all.

The engine's bytes go back untouched. A refusal is a 409 with `X-Swapyard-Refused`; an engine's own
409 never carries that header.
"""

from __future__ import annotations

import json
from contextlib import aclosing
from urllib.parse import quote

import httpx
from starlette.types import Receive, Scope, Send

from shared.errors import EngineFailed, EngineStalled, NotFound, SwapyardError
from shared.wire import (
    CONNECT_TIMEOUT,
    REQUEST_HEADERS,
    RESPONSE_HEADERS,
    Answer,
    ClientGone,
    Headers,
    client,
    header,
    only,
    read_body,
    while_client_stays,
)
from sidecar.engines.launch import Launch
from sidecar.paths import is_inference, split
from sidecar.supervisor import Refused, Supervisor

MAX_BODY = 256 * 2**20  # bytes; what clients may send is limited by the router
# Each request has a connection of its own: llama.cpp's server closes some right after an answer,
# and a request that was sent on one of those would be lost. On loopback a new one costs 0.1 ms.
ENGINE_KEEPALIVE = 0.0


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
            model, path = self._where(scope["path_params"]["path"])
            with self._supervisor.admitted(model, header(scope, b"x-swapyard-router")) as launch:
                body = await read_body(receive, MAX_BODY)
                request = self._request(scope, body, path, launch)
                async with while_client_stays(receive):
                    await self._pass_on(request, answer)
        except Refused as refused:
            await _refuse(answer, refused)
        except SwapyardError as error:
            await answer.fail(error)
        except ClientGone:
            pass

    def _where(self, path: str) -> tuple[str, str]:
        found = split(path, self._supervisor.known)
        if found is None or not is_inference(found[1]):
            raise NotFound(f"/engines/{path}")
        return found

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
            said = str(error) or type(error).__name__
            await answer.fail(
                EngineFailed(f"The engine ended the connection: {said}", code="engine_died")
            )


async def _refuse(answer: Answer, refused: Refused) -> None:
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"x-swapyard-refused", refused.reason.encode()),
    ]
    body = {"boot": refused.boot, "seq": refused.seq}
    await answer.whole(409, headers, json.dumps(body).encode())
