"""python -m router --config router.yaml"""

from __future__ import annotations

import asyncio

from router.app import make_app, make_dispatch
from router.box import follow
from router.config import RouterConfig
from shared import logs, serve


def main() -> None:
    config = serve.config(RouterConfig, serve.options("router").parse_args().config)
    logs.configure()
    try:
        serve.run(_serve(config))
    except OSError as error:
        serve.refuse(error)


async def _serve(config: RouterConfig) -> None:
    with serve.listen(config) as listener:
        dispatch = make_dispatch(config)
        app = make_app(config, dispatch)
        async with asyncio.TaskGroup() as group:  # a router that follows no box must end
            following = group.create_task(follow(config.sidecars, dispatch))
            await serve.serve(app, listener, dispatch.close)
            following.cancel()


if __name__ == "__main__":
    main()
