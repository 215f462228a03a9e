"""The pair with the demo models, in the foreground, until Ctrl-C.

python examples/demo/run.py
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import yaml

HERE = Path(__file__).parent
PATIENCE = 30.0  # seconds for each of the two programs to get ready
LONGEST_END = 45.0  # seconds: the sidecar drains for 30 at most, then stops its engines

# In the order of their start: a router warns of a box that it cannot reach.
MOVING = {
    "sidecar": "`listen` in examples/demo/sidecar.yaml and `url` in examples/demo/router.yaml",
    "router": "`listen` in examples/demo/router.yaml",
}
HELLO = '{"model": "demo-small", "stream": true, "messages": [{"role": "user", "content": "Hi"}]}'
WELCOME = f"""
swapyard is ready on ROUTER

Load a model and watch it come:

  curl -N ROUTER/v1/chat/completions \\
    -d '{HELLO}'

Ask for one that needs the room, and see the switch: the same with "model": "demo-big".
See what is loaded:   .venv/bin/swapyard status --url ROUTER
With an OpenAI client: base_url="ROUTER/v1", any api_key.

Ctrl-C ends both programs and their engines.
"""


class Stopped(Exception):
    """Somebody wants us to end."""


def main() -> int:
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    programs: list[subprocess.Popen[bytes]] = []
    try:
        urls = {program: url_of(program) for program in MOVING}
        for program, url in urls.items():
            if taken(url):
                say(f"{urlsplit(url).netloc} is taken: is a {program} running already?")
                say(f"else give it another port: {MOVING[program]}")
                return 1
        subprocess.run([sys.executable, str(HERE / "make_models.py")], check=True)
        for program, url in urls.items():
            programs.append(start(program))
            if not gets_ready(programs[-1], url):
                say(f"the {program} did not get ready")
                return 1
        print(WELCOME.replace("ROUTER", urls["router"]), flush=True)
        return watch(programs)
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    except Stopped:
        say("ending ...")
        return 0
    finally:
        end(programs)


def url_of(program: str) -> str:
    config = yaml.safe_load((HERE / f"{program}.yaml").read_text())
    return f"http://{config['listen']}"


def start(program: str) -> subprocess.Popen[bytes]:
    """In a session of its own, so that Ctrl-C reaches us alone and we end them in order."""
    config = HERE / f"{program}.yaml"
    say(f"starting the {program} ({config.relative_to(HERE.parent.parent)}) ...")
    argv = [sys.executable, "-m", program, "--config", str(config)]
    return subprocess.Popen(argv, start_new_session=True, cwd=HERE.parent.parent)


def gets_ready(program: subprocess.Popen[bytes], url: str) -> bool:
    deadline = time.monotonic() + PATIENCE
    while program.poll() is None and time.monotonic() < deadline:
        if ready(url):
            return True
        time.sleep(0.05)
    return False


def ready(url: str) -> bool:
    """A sidecar takes work; a router hears it."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
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


def taken(url: str) -> bool:
    at = urlsplit(url)
    try:
        socket.create_connection((at.hostname, at.port), timeout=2).close()
    except OSError:
        return False
    return True


def stop(number: int, frame: FrameType | None) -> None:
    raise Stopped


def say(text: str) -> None:
    print(f"swapyard: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
