"""python -m sidecar --config sidecar.yaml"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import structlog
from starlette.applications import Starlette

from shared import control, logs, serve
from sidecar import adoption, catalogue, strays
from sidecar.app import make_app
from sidecar.config import SidecarConfig
from sidecar.gpu import MemoryReader, SystemMemory
from sidecar.launcher import Launcher
from sidecar.launches import Launches
from sidecar.proxy import EngineProxy
from sidecar.runners import Runners
from sidecar.state import Held, StateFolder
from sidecar.supervisor import Supervisor
from sidecar.watchman import Watchman

KEEP = "at the end leave the engines running for the next sidecar: an upgrade without a reload"

log = structlog.get_logger()


def main() -> None:
    parser = serve.options("sidecar")
    parser.add_argument("--keep-engines", action="store_true", help=KEEP)
    chosen = parser.parse_args()
    config = serve.config(SidecarConfig, chosen.config)
    logs.configure()
    try:
        serve.run(_serve(config, keep=chosen.keep_engines))
    except (Held, OSError) as error:
        serve.refuse(error)


async def _serve(config: SidecarConfig, *, keep: bool) -> None:
    async with AsyncExitStack() as stack:
        folder = StateFolder(config.state_dir)
        stack.callback(folder.close)
        launches = Launches(folder.path)
        strays.inherit()
        watchman = Watchman(folder, config.orphan_grace, _patience(config))
        watchman.start()  # first: what an earlier sidecar has left is guarded from here on
        stack.callback(lambda: None if launches.left() else watchman.dismiss())
        listener = stack.enter_context(serve.listen(config))
        reader = stack.enter_context(MemoryReader(SystemMemory()))
        http = await stack.enter_async_context(control.client())
        supervisor = await _supervisor(config, folder, launches, reader, http)
        proxy = EngineProxy(supervisor)

        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            log.info("ready", box=supervisor.box.name, listen=str(config.listen))
            try:
                yield
            finally:
                proxy.close()

        async def farewell(hurry: asyncio.Event) -> None:
            await supervisor.close(config.shutdown_timeout, hurry, keep=keep)

        app = make_app(config.keys, supervisor, proxy, lifespan)
        async with asyncio.TaskGroup() as group:  # a sidecar that supervises nothing must end
            tasks = [
                group.create_task(work)
                for work in (supervisor.run(), strays.reap_for_ever(), watchman.run())
            ]
            await serve.serve(app, listener, farewell)
            for task in tasks:
                task.cancel()


def _patience(config: SidecarConfig) -> float:
    """Seconds that any of its engines may take for a polite end."""
    return max(model.stop_timeout for model in config.models.values())


async def _supervisor(
    config: SidecarConfig,
    folder: StateFolder,
    launches: Launches,
    reader: MemoryReader,
    http: httpx.AsyncClient,
) -> Supervisor:
    """With the engines that an earlier sidecar has left here."""
    known, seen = catalogue.read(config), await reader.read(frozenset())
    launcher = Launcher(known, folder)
    left = await adoption.take_over(folder, launches, launcher, seen.gpus, http)
    return Supervisor(
        name=config.box or socket.gethostname(),
        config=config,
        known=known,
        folder=folder,
        reader=reader,
        seen=seen,
        runners=Runners(folder, launcher, launches, http),
        left=left,
    )


if __name__ == "__main__":
    main()
