"""Ports of engines: one that is free, and whether it is our engine that listens on it."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Iterator

import psutil

# Below the ports that Linux gives to outgoing connections: one of those could take the port before
# the engine does, and a poll of a port where nobody listens yet could be connected to itself.
PORTS = range(20000, 32768)


def free() -> int:
    """A port of loopback that nobody holds at this moment."""
    while True:
        port = PORTS[secrets.randbelow(len(PORTS))]
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def answers(port: int) -> bool:
    """Whether anybody listens on it. On loopback the kernel says so at once, but for a listener
    that does not accept: it is not waited for."""
    with socket.socket() as probe:
        probe.settimeout(0.01)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def belongs_to(leader: int, port: int) -> bool:
    """Whether this process or one of its descendants listens on it: a stranger that holds the
    port answers just as well."""
    try:
        return any(port in listening(process) for process in family(leader))
    except psutil.Error:  # it ended while we looked
        return False


def family(leader: int) -> Iterator[psutil.Process]:
    """The leader first: mostly it is the one, and to find the others takes longer."""
    process = psutil.Process(leader)
    yield process
    yield from process.children(recursive=True)


def listening(process: psutil.Process) -> set[int]:
    found = process.net_connections("tcp")
    return {seen.laddr.port for seen in found if seen.status == psutil.CONN_LISTEN}
