"""What an engine says that never stops talking: `--log-flood`. Standard library only."""

import os
import sys
import time
from threading import Thread

BYTES_PER_SECOND = 100 * 10**6
BLOCK = 2**18  # bytes in one write
KINDS = {
    "lines": b"one more line that nobody will ever read\n" * (BLOCK // 41),
    "blank": b"\n" * BLOCK,
    "endless": b"x" * BLOCK,  # without an end of a line
    "binary": os.urandom(BLOCK).replace(b"\n", b"\0"),
}


def start(kind: str) -> None:
    Thread(target=flood, args=(KINDS[kind],), daemon=True).start()


def flood(block: bytes) -> None:
    """Slower where the disk is: then as fast as it can."""
    began, said = time.monotonic(), 0
    while True:
        said += os.write(sys.stderr.fileno(), block)
        time.sleep(max(0.0, began + said / BYTES_PER_SECOND - time.monotonic()))
