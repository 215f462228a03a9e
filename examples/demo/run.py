"""The pair with the demo models, in the foreground, until Ctrl-C.

python examples/demo/run.py
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import FrameType

HERE = Path(__file__).parent
ROUTER = "http://127.0.0.1:8080"
PORTS = {"sidecar": 8090, "router": 8080}
PATIENCE = 30.0  # seconds for the two programs to get ready
LONGEST_END = 45.0  # seconds: the sidecar drains for 30 at most, then stops its engines

HELLO = '{"model": "demo-small", "stream": true, "messages": [{"role": "user", "content": "Hi"}]}'
WELCOME = f"""
swapyard is ready on {ROUTER}

Load a model and watch it come:

  curl -N {ROUTER}/v1/chat/completions \\
    -d '{HELLO}'

Ask for one that needs the room, and see the switch: the same with "model": "demo-big".
See what is loaded:   .venv/bin/swapyard status
With an OpenAI client: base_url="{ROUTER}/v1", any api_key.

Ctrl-C ends both programs and their engines.
"""


class Stopped(Exception):
    """Somebody wants us to end."""


def main() -> int:
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    programs: list[subprocess.Popen[bytes]] = []
    try:
        for program, port in PORTS.items():
            if taken(port):
                say(f"port {port} is taken: is a {program} running already?")
                say(f"else give it another in examples/demo/{program}.yaml")
                return 1
        subprocess.run([sys.executable, str(HERE / "make_models.py")], check=True)
        programs = [start("sidecar"), start("router")]
        wait_until_ready(programs)
        print(WELCOME, flush=True)
        return watch(programs)
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    except Stopped:
        say("ending ...")
        return 0
    finally:
        end(programs)


def start(program: str) -> subprocess.Popen[bytes]:
    """In a session of its own, so that Ctrl-C reaches us alone and we end them in order."""
    config = HERE / f"{program}.yaml"
    say(f"starting the {program} ({config.relative_to(HERE.parent.parent)}) ...")
    argv = [sys.executable, "-m", program, "--config", str(config)]
    return subprocess.Popen(argv, start_new_session=True, cwd=HERE.parent.parent)


def wait_until_ready(programs: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        if any(program.poll() is not None for program in programs):
            raise Stopped
        if time.monotonic() > deadline:
            say(f"not ready within {PATIENCE:.0f} s")
            raise Stopped
        time.sleep(0.05)


def ready() -> bool:
    """The router hears the sidecar, and knows its models."""
    try:
        with urllib.request.urlopen(f"{ROUTER}/v1/models", timeout=2) as answer:
            return bool(json.load(answer)["data"])
    except (urllib.error.URLError, ConnectionError, ValueError):
        return False


def watch(programs: list[subprocess.Popen[bytes]]) -> int:
    """Until one of them ends, which it should not."""
    while all(program.poll() is None for program in programs):
        time.sleep(0.2)
    say("one of the two programs has ended")
    return 1


def end(programs: list[subprocess.Popen[bytes]]) -> None:
    """The router first, so that nobody waits for a sidecar that goes. Signals are ignored from
    here on but passed on: a second Ctrl-C ends both at once."""

    def hurry(number: int, frame: FrameType | None) -> None:
        for program in programs:
            if program.poll() is None:
                program.terminate()

    signal.signal(signal.SIGINT, hurry)
    signal.signal(signal.SIGTERM, hurry)
    for program in reversed(programs):
        program.terminate()
        try:
            program.wait(LONGEST_END)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


def taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def stop(number: int, frame: FrameType | None) -> None:
    raise Stopped


def say(text: str) -> None:
    print(f"swapyard: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
