"""Whether an engine can serve, as it says itself; nobody else is asked in its place."""

from __future__ import annotations

import httpx

from sidecar import port
from sidecar.engines.launch import Launch
from sidecar.process import Process


def listens(launch: Launch, process: Process) -> bool:
    """Whether it is our engine that listens there, and no stranger: before that, nobody is told
    its key."""
    return launch.elsewhere or (port.answers(launch.port) and process.listens(launch.port))


async def says(launch: Launch, http: httpx.AsyncClient, within: float) -> bool | None:
    """Whether it can serve; None when there is no answer in so many seconds."""
    url = f"http://127.0.0.1:{launch.port}{launch.health}"
    headers = {"authorization": f"Bearer {launch.key}"}
    try:
        return (await http.get(url, headers=headers, timeout=within)).is_success
    except httpx.HTTPError:
        return None
