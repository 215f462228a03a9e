"""Engines whose process here only stands for one elsewhere, as `docker run` does: a command of
their own stops them.
"""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL
from collections.abc import Sequence

import structlog

from sidecar.environment import inherited

log = structlog.get_logger()


async def stop(command: Sequence[str]) -> None:
    """Returns when the command has ended, whether it did any good or not. Ends with its caller."""
    try:
        stopping = await asyncio.create_subprocess_exec(
            *command, env=inherited(), stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL
        )
    except OSError as error:
        log.warning("stop_command", error=str(error))
        return
    try:
        await stopping.wait()
    finally:
        if stopping.returncode is None:
            stopping.kill()
