"""Carries out a Dockerfile's steps in folders of this machine: `debootstrap` for the base, `chroot`
for RUN.

Rule: what the host lends for the way to the registries is bound in for each RUN and is not there
afterwards.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from deploy.try_image.cell import APART, Cell, Mount
from deploy.try_image.dockerfile import Copy, Folder, Run, Stage, Step, sent
from deploy.try_image.say import Failed, say, timed

BASES = {"debian:bookworm-slim": "bookworm", "debian:trixie-slim": "trixie"}
MIRROR = "http://deb.debian.org"
LENT = ("resolv.conf", "pip.conf", "apt.conf", "ca.crt")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT",
             "PIP_RETRIES", "http_proxy", "https_proxy", "no_proxy")  # fmt: skip


class Builder:
    def __init__(self, context: Path, folder: Path) -> None:
        self._context = context
        self._folder = folder
        self._lent = lend(folder / "lent")

    def build(self, stages: Sequence[Stage]) -> Path:
        """The root of the last stage."""
        roots: dict[str, Path] = {}
        for number, stage in enumerate(stages):
            say(f"FROM {stage.base}" + (f" AS {stage.name}" if stage.name else ""))
            root = self._folder / f"stage-{number}"
            run("cp", "-a", str(self._base(stage.base)), str(root))
            for step in stage.steps:
                self._step(root, step, roots)
            roots[stage.name] = root
        for name in ("resolv.conf", "hosts", "hostname"):  # an engine puts its own over them
            (root / "etc" / name).write_text("")
        return root

    def _base(self, image: str) -> Path:
        if image not in BASES:
            raise Failed(f"{image} cannot be had by debootstrap; {', '.join(BASES)} can")
        suite = BASES[image]
        root = self._folder / suite
        if not root.exists():
            with timed(f"debootstrap --variant=minbase {suite}"):
                mirror = f"{MIRROR}/debian"
                argv = ["debootstrap", "--variant=minbase", suite, str(root), mirror]
                run(*APART, "--mount-proc", *argv)  # it mounts, and has children
                (root / "etc/apt/sources.list").write_text(
                    f"deb {mirror} {suite} main\ndeb {mirror} {suite}-updates main\n"
                    f"deb {MIRROR}/debian-security {suite}-security main\n"
                )
                shutil.rmtree(root / "var/cache/apt/archives")
        return root

    def _step(self, root: Path, step: Step, roots: dict[str, Path]) -> None:
        match step:
            case Run():
                with timed(f"RUN {step.command}"):
                    self._run(root, step)
            case Copy():
                say(f"COPY {' '.join(step.sources)} {step.target}")
                source = roots[step.stage] if step.stage else self._sent()
                copy(step, source, root)
            case Folder():
                say(f"WORKDIR {step.path}")
                (root / step.path.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def _run(self, root: Path, step: Run) -> None:
        env = {name: os.environ[name] for name in VARIABLES if name in os.environ} | {
            "PIP_CONFIG_FILE": "/run/lent/pip.conf",
            "PIP_CERT": "/run/lent/ca.crt",
            "APT_CONFIG": "/run/lent/apt.conf",
            "DEBIAN_FRONTEND": "noninteractive",
        }
        mounts = [
            Mount(self._lent, "/run/lent", read_only=True),
            Mount(self._lent / "resolv.conf", "/etc/resolv.conf", read_only=True),
        ]
        argv = ["/bin/sh", "-c", step.command]
        done = Cell(
            root, argv, env | dict(step.config.env), step.config.workdir, mounts=mounts
        ).run()
        shutil.rmtree(root / "run/lent")
        if done.returncode != 0:
            raise Failed(f"it ended with {done.returncode}:\n{done.stdout[-4000:]}")

    def _sent(self) -> Path:
        """The files of the context that .dockerignore lets through."""
        folder = self._folder / "context"
        if not folder.exists():
            every = [str(path.relative_to(self._context)) for path in files(self._context)]
            for name in sent(every, (self._context / ".dockerignore").read_text()):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self._context / name, folder / name)
            say(f"{len(list(files(folder)))} files of {len(every)} are sent (.dockerignore)")
        return folder


def lend(folder: Path) -> Path:
    """What this machine needs to reach its registries: names, certificates, pip's, apt's words."""
    folder.mkdir()
    http = subprocess.run(
        ["apt-config", "dump", "Acquire::http", "Acquire::https"], capture_output=True, check=True
    )
    (folder / "apt.conf").write_bytes(http.stdout)
    for source in (Path("/etc/resolv.conf"), Path("/etc/pip.conf"), CERTIFICATES):
        name = "ca.crt" if source == CERTIFICATES else source.name
        (folder / name).write_bytes(source.read_bytes() if source.exists() else b"")
    say(f"this machine lends each RUN its {', '.join(LENT)}, and takes them back")
    return folder


def copy(step: Copy, source: Path, root: Path) -> None:
    """Of a folder what is in it, of a file itself."""
    target = root / step.target.lstrip("/")
    for name in step.sources:
        origin = source / name.lstrip("/")
        into = target / origin.name if origin.is_file() and step.target.endswith("/") else target
        into.parent.mkdir(parents=True, exist_ok=True)
        run("cp", "-a", "--no-target-directory", str(origin), str(into))
        if step.stage is None:
            run("chown", "-R", "0:0", str(into))


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
