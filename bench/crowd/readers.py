"""Those who watch: a process of its own, `python -m bench.crowd.readers URL PATH NUMBER`.

Each reads the stream of events at that path and notes when it heard what; the last of them never
reads. What they have noted goes as JSON to stdout when a line comes on stdin.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from urllib.parse import urlsplit

import uvloop

from bench.relay.engine import take_files

SMALL = 4096  # bytes of a buffer, so that who does not read stands still at once


class Reader(asyncio.Protocol):
    """Cuts events at their blank line, and notes the data of each."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._rest = b""
        self.noted: list[tuple[float, str]] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.time()
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            start = event.find(b"data: ")
            if start >= 0:
                self.noted.append((now, event[start + 6 :].decode()))


async def main(url: str, path: str, number: int) -> None:
    take_files()
    loop, at = asyncio.get_running_loop(), urlsplit(url)
    host, port = at.hostname or "", at.port or 80
    request = f"GET {path} HTTP/1.1\r\nhost: {at.netloc}\r\n\r\n".encode()
    readers = []
    for _ in range(number - 1):
        _, reader = await loop.create_connection(lambda: Reader(request), host, port)
        readers.append(reader)
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        stuck.connect((host, port))
        stuck.sendall(request)
        print(json.dumps({"watching": number}), flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
    print(json.dumps([reader.noted for reader in readers]), flush=True)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
