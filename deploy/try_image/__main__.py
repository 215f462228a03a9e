"""The image of the Dockerfile, made and run by hand on a machine without a container engine.

    make try-image          as root, with debootstrap, tini, iproute2 and curl

It carries out the Dockerfile in a folder of its own, starts what compose.yaml says (the same
commands, environment, configs, volumes and user, a read-only root, no capabilities, a network
without a way out), and looks at what a person would look at. All of it is gone at the end.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

import yaml

from deploy.try_image import play
from deploy.try_image.build import BASES, Builder
from deploy.try_image.cell import INIT
from deploy.try_image.dockerfile import read
from deploy.try_image.say import Failed, say, timed
from deploy.try_image.service import Yard

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("debootstrap", "unshare", "nsenter", "setpriv", "ip", "curl", INIT)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.try_image", description=__doc__)
    parser.add_argument("base", nargs="?", help=f"another base image: {', '.join(BASES)}")
    base: str | None = parser.parse_args().base
    arguments = {"BASE": base} if base else {}
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if os.geteuid() != 0 or missing:
        print(f"This needs root and {', '.join(missing or PROGRAMS)}.", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, stop)
    folder = Path(tempfile.mkdtemp(prefix="swapyard-image-"))
    try:
        folder.chmod(0o755)  # what is in it belongs to the image's user, too
        everything(folder, arguments)
    except Failed as failure:
        say(str(failure))
        return 1
    except KeyboardInterrupt:
        say("ended by hand")
        return 1
    finally:
        with timed("removing everything"):
            shutil.rmtree(folder)
    return 0


def everything(folder: Path, arguments: dict[str, str]) -> None:
    stages = read((ROOT / "Dockerfile").read_text(), **arguments)
    image = Builder(ROOT, folder).build(stages)
    play.look_at_the_image(image, ROOT)
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    play.run(Yard(image, stages[-1].config, ROOT, folder, compose, environ={}))


def stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
