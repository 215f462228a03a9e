"""Engines started and stopped bare: what a switch costs at the very least."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from sidecar.engines import reports
from tests.harness import ENGINE, free_port

TICK = 0.001  # seconds between two looks


def embedded(model: Path, folder: Path) -> tuple[float, float]:
    """Seconds of one load and of one stop."""
    fifo, log, port = folder / "bare.fifo", folder / "bare.log", free_port()
    os.mkfifo(fifo)
    argv = [sys.executable, "-m", "sidecar.engines.embedded_server", "--model", str(model)]
    argv += ["--alias", "bare", "--port", str(port), "--context", "131072", "--slots", "4"]
    try:
        return timed([*argv, "--threads", "1"], log, lambda: reported_ready(log), fifo)
    finally:
        fifo.unlink()


def fake(load: float, folder: Path) -> tuple[float, float]:
    """The fake engine program, that takes `load` seconds to get ready."""
    port = free_port()
    argv = [sys.executable, str(ENGINE), "--port", str(port), "--load-seconds", str(load)]
    return timed(argv, folder / "bare.log", lambda: healthy(port), Path(os.devnull))


def timed(
    argv: Sequence[str], log: Path, ready: Callable[[], bool], stdin: Path
) -> tuple[float, float]:
    log.write_bytes(b"")
    began = time.monotonic()
    with log.open("ab") as output, open(os.open(stdin, os.O_RDWR), "rb") as nothing:
        process = subprocess.Popen(argv, stdin=nothing, stdout=output, stderr=output)
    while not ready():
        assert process.poll() is None, log.read_text()
        time.sleep(TICK)
    loaded = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait()
    return loaded - began, time.monotonic() - loaded


def reported_ready(log: Path) -> bool:
    lines = log.read_text(errors="replace").splitlines()
    return any(isinstance(reports.parse(line), reports.Ready) for line in lines)


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False
