"""python -m sidecar --config sidecar.yaml"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import structlog
from starlette.applications import Starlette

from shared import logs, serve
from sidecar import catalogue
from sidecar.app import make_app
from sidecar.config import SidecarConfig
from sidecar.gpu import MemoryReader, SystemMemory
from sidecar.proxy import EngineProxy
from sidecar.state import Held, StateFolder
from sidecar.supervisor import Supervisor

log = structlog.get_logger()


def main() -> None:
    config = serve.config(SidecarConfig, "sidecar")
    logs.configure()
    try:
        serve.run(_serve(config))
    except (Held, OSError) as error:
        serve.refuse(error)


async def _serve(config: SidecarConfig) -> None:
    with ExitStack() as stack:
        folder = StateFolder(config.state_dir)
        stack.callback(folder.close)
        listener = stack.enter_context(serve.listen(config))
        reader = stack.enter_context(MemoryReader(SystemMemory()))
        supervisor = Supervisor(
            name=config.box or socket.gethostname(),
            config=config,
            known=catalogue.read(config),
            folder=folder,
            reader=reader,
            seen=await reader.read(frozenset()),
        )
        proxy = EngineProxy(supervisor)

        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            log.info("ready", box=supervisor.box.name, listen=str(config.listen))
            try:
                yield
            finally:
                proxy.close()

        async def farewell(hurry: asyncio.Event) -> None:
            await supervisor.close(config.shutdown_timeout, hurry)

        app = make_app(config.keys, supervisor, proxy, lifespan)
        async with asyncio.TaskGroup() as group:  # a sidecar that supervises nothing must end
            running = group.create_task(supervisor.run())
            await serve.serve(app, listener, farewell)
            running.cancel()


if __name__ == "__main__":
    main()
