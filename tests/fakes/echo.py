"""An engine program that shows what reached it, and answers with headers that it has no right to.

Rule: it says nothing of its own. `POST /v1/echo?status=409` gives the body back as it came, in
pieces; every other path gives a JSON of the request and of the program's environment.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PIECE = 1000  # bytes
NOT_ITS_OWN = {"X-Swapyard-Refused": "busy", "X-Swapyard-Box": "another", "Set-Cookie": "a=b"}


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("content-length", 0))))

    def _answer(self, body: bytes) -> None:
        url = urlsplit(self.path)
        status = parse_qs(url.query).get("status", ["200"])
        self.send_response(int(status[0]))
        for name, value in NOT_ITS_OWN.items():
            self.send_header(name, value)
        if url.path == "/v1/echo":
            self._in_pieces(body)
        else:
            self._shown(body)

    def _in_pieces(self, body: bytes) -> None:
        self.send_header("Content-Type", self.headers.get("content-type", "application/x-any"))
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at in range(0, len(body), PIECE):
            piece = body[at : at + PIECE]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def _shown(self, body: bytes) -> None:
        seen = {
            "method": self.command,
            "target": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": body.decode("latin-1"),
            "argv": sys.argv,
            "env": dict(os.environ),
        }
        said = json.dumps(seen).encode()
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: object) -> None:
        """Its log is not what is looked at."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Echo)
    sys.stderr.write("echo: up\n")
    server.serve_forever()
