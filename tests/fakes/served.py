"""A program behind the door of both programs, with limits as a test wants them.

    python tests/fakes/served.py PORT '{"head": 0.2}'

What it sees of its clients is a line of its output: `begun PATH`, `left PATH`, `read BYTES`.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from shared import logs, serve
from shared.exchange import LEAVING
from shared.patience import Limits
from shared.program import Program

PIECE = b"x" * 2**16


def say(what: str) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


@contextmanager
def watched(scope: Scope) -> Iterator[asyncio.Event]:
    left, path = asyncio.Event(), scope["path"]

    def leaves() -> None:
        left.set()
        say(f"left {path}")

    scope["extensions"][LEAVING](leaves)
    say(f"begun {path}")
    yield left
    scope["extensions"][LEAVING](None)


class Wait:
    """Begins an answer if the path says so, and waits until the client has left."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with watched(scope) as left:
            if scope["path"] == "/streaming":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"first", "more_body": True})
            await left.wait()


class Flood:
    """An answer without an end, as fast as it is taken."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with watched(scope) as left:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while not left.is_set():
                await send({"type": "http.response.body", "body": PIECE, "more_body": True})


class Early:
    """Begins its answer before it has the body."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await Request(scope, receive).body()
        await send({"type": "http.response.body", "body": b"read"})


class Held:
    """Does not ask for the body until a second request lets it."""

    def __init__(self) -> None:
        self.may = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        say("begun /held")
        await self.may.wait()
        await PlainTextResponse(str(len(await Request(scope, receive).body())))(
            scope, receive, send
        )

    async def let(self, request: Request) -> Response:
        self.may.set()
        return PlainTextResponse("let")


async def echo(request: Request) -> Response:
    say("begun /echo")
    try:
        body = await request.body()
    except ClientDisconnect:
        say("left /echo")
        raise
    say(f"read {len(body)}")
    return Response(body)


async def tell(request: Request) -> Response:
    """The headers that an application sees."""
    await request.body()
    return PlainTextResponse(
        "\n".join(f"{name}: {value}" for name, value in request.headers.items())
    )


async def main() -> None:
    logs.configure()
    config = Program.model_validate({"listen": f"127.0.0.1:{sys.argv[1]}"})
    held = Held()
    routes = [
        Route("/echo", echo, methods=["POST"]),
        Route("/tell", tell, methods=["GET", "POST"]),
        Route("/healthz", lambda request: PlainTextResponse("ok")),
        Route("/waiting", Wait()),
        Route("/streaming", Wait()),
        Route("/flood", Flood()),
        Route("/early", Early()),
        Route("/held", held),
        Route("/let", held.let),
    ]
    with serve.listen(config) as listener:
        limits = Limits(**json.loads(sys.argv[2]))

        async def farewell(hurry: asyncio.Event) -> None:
            pass

        await serve.serve(Starlette(routes=routes), listener, farewell, limits)


if __name__ == "__main__":
    serve.run(main())
