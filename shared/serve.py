"""One program's life: its config, then uvicorn on a loop of ours until a signal.

uvicorn's own signal handling ends connections before the program could drain; here the first
SIGTERM or SIGINT starts the program's own farewell, and the second one ends it at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import structlog
import uvicorn
import uvloop
from starlette.types import ASGIApp

from shared import settings
from shared.door import Door
from shared.patience import DEFAULT, Limits
from shared.program import Program

M = TypeVar("M", bound=settings.Settings)

# Backstop only: our own streams have ended by then. An endless one would hold the exit for ever.
LAST_WORDS = 1  # seconds

# Bytes that the kernel takes before it can send them. By itself it takes megabytes, and more only
# when a third of them is gone: a slow reader would look like one that takes nothing.
NOT_SENT = 64 * 1024

# Of every accepted socket: whether a peer that is silent is still there is asked after 15 s and
# then every 5 s. TCP_USER_TIMEOUT decides when it has vanished; it also ends a connection whose
# peer has had no room for anything so long, so it must not be shorter than Limits.stall.
OPTIONS = {
    socket.TCP_KEEPIDLE: 15,  # seconds
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: int(DEFAULT.stall * 1000),  # milliseconds
    socket.TCP_NOTSENT_LOWAT: NOT_SENT,
}

# Objects. What is thrown away here is hardly ever part of a cycle, and each search for such parts
# walks through all that 10,000 waiting clients hold: with Python's default (700, 10, 10) it took a
# third of the router's time.
COLLECTED_AFTER = (20_000, 20, 100)

log = structlog.get_logger()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the program has its own


def options(program: str) -> argparse.ArgumentParser:
    """What every program takes on its command line."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}")
    default = Path(f"{program}.yaml")
    about = f"the file to read ({default}); every key: docs/configuration.md"
    parser.add_argument("--config", type=Path, default=default, help=about)
    return parser


def config(model: type[M], file: Path) -> M:
    """What the file says. Every problem is told at once, and nothing is started."""
    path = file.absolute()
    try:
        text = path.read_text(encoding="utf-8")
        return settings.read(model, text, name=path.name, folder=path.parent, env=os.environ)
    except OSError as error:
        said = (
            f"{path} cannot be read: {error.strerror}. docs/configuration.md says what it may hold;"
        )
        refuse(OSError(f"{said} --config names another file."))
    except (UnicodeDecodeError, settings.Problems) as error:
        refuse(error)


def refuse(why: Exception) -> NoReturn:
    sys.stderr.write(f"{why}\n")
    sys.exit(2)


def listen(config: Program) -> socket.socket:
    """OSError if the address cannot be had. uvicorn would end the program by itself."""
    host, port = config.listen.host, config.listen.port
    if config.lets_everyone_in:
        log.warning(
            "open to everyone who can reach it: no `keys` are set", listen=str(config.listen)
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in OPTIONS.items():  # Linux hands them on to each socket it accepts
        listener.setsockopt(socket.IPPROTO_TCP, option, value)
    return listener


async def serve(
    app: ASGIApp,
    listener: socket.socket,
    farewell: Callable[[asyncio.Event], Awaitable[None]],
    limits: Limits = DEFAULT,
) -> None:
    """Serve until a signal; then await `farewell(hurry)` while still serving, then end.

    `hurry` is set by the second signal.
    """
    config = uvicorn.Config(
        app,
        http=partial(Door, limits=limits),  # type: ignore[arg-type]  # it only calls it
        proxy_headers=False,  # nobody is believed about where a request comes from
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=LAST_WORDS,
    )
    server = _Server(config)
    with _signals() as (asked, hurry):
        serving = asyncio.ensure_future(server.serve([listener]))
        stopping = asyncio.ensure_future(asked.wait())
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                log.info("shutting down", a_second_signal="ends it at once")
                await farewell(hurry)
            server.should_exit = True
            await serving
            log.info("ended")
        finally:
            stopping.cancel()


def run(main: Coroutine[Any, Any, None]) -> None:
    gc.freeze()  # what was imported stays
    gc.set_threshold(*COLLECTED_AFTER)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)  # each connection is one, and 1,024 usual
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


@contextlib.contextmanager
def _signals() -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    loop, asked, hurry = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def signalled() -> None:
        (hurry if asked.is_set() else asked).set()

    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, signalled)
    try:
        yield asked, hurry
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
