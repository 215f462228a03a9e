"""Ports of engines: one that is free, and whether it is our engine that listens on it."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Iterable

import psutil

# Below the ports that Linux gives to outgoing connections: one of those could take the port before
# the engine does, and a poll of a port where nobody listens yet could be connected to itself.
PORTS = range(20000, 32768)


def free() -> int:
    """A port of loopback that nobody holds at this moment, as far as we can look."""
    while True:
        port = PORTS[secrets.randbelow(len(PORTS))]
        try:
            probe = socket.socket()
        except OSError:  # no descriptor left to look with: the start fails by itself, and says so
            return port
        with probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def answers(port: int) -> bool:
    """Whether anybody listens on it. On loopback the kernel says so at once, but for a listener
    that does not accept: it is not waited for."""
    with socket.socket() as probe:
        probe.settimeout(0.01)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def holder(pids: Iterable[int], port: int) -> int | None:
    """Who of these listens on it, if anybody does: a stranger that holds it answers just as well.
    One after the other: mostly it is the first, and to ask takes a millisecond."""
    return next((pid for pid in pids if port in _listening(pid)), None)


def _listening(pid: int) -> set[int]:
    try:
        found = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:  # it ended while we looked, or is another user's
        return set()
    return {seen.laddr.port for seen in found if seen.status == psutil.CONN_LISTEN}
