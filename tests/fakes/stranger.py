"""Takes a port at the very moment when nobody has it: stranger.py PORT

Says "here" once it has it, and then, a line for each, what it was sent. To all it answers a 200.

Rule: standard library only; it does nothing else, so that it is fast.
"""

import contextlib
import os
import socket
import sys
import threading

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n"
ANSWER = HEAD + b'"stranger"'


def serve(client: socket.socket) -> None:
    with client, contextlib.suppress(ConnectionError):
        client.sendall(ANSWER)
        while heard := client.recv(2**16):
            say(f"heard {heard!r}")


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def taken(port: int) -> socket.socket:
    while True:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            listener.close()
        else:
            listener.listen(128)
            return listener


listener = taken(int(sys.argv[1]))
say("here")
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
