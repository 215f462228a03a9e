"""Starts and stops what compose.yaml says, with one image and one network for all.

Rule: a word of a service that this does not know is an error, never skipped.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from deploy.try_image.cell import Cell, Mount, inside, join
from deploy.try_image.dockerfile import Config
from deploy.try_image.say import Failed

# What a container engine and compose do with these cannot be shown by one process on its own.
_NOT_HERE = {
    "image",
    "build",
    "pull_policy",
    "restart",
    "logging",
    "ports",
    "profiles",
    "depends_on",
    "deploy",
}
_HERE = {"entrypoint", "command", "environment", "volumes", "tmpfs", "read_only", "init", "pid",
         "cap_drop", "security_opt", "healthcheck", "stop_grace_period"}  # fmt: skip
_BARE = (["ALL"], ["no-new-privileges:true"])
HEALTHY_IN = 60.0  # seconds


@dataclass
class Yard:
    """Where containers are: the image, the volumes, the names of the services."""

    root: Path
    config: Config
    context: Path
    folder: Path
    compose: Mapping[str, Any]
    environ: Mapping[str, str]  # of the person who calls compose

    def service(self, name: str) -> Service:
        said = self.compose["services"][name]
        if unknown := set(said) - _NOT_HERE - _HERE:
            raise Failed(
                f"{name} says {', '.join(sorted(unknown))}, which this script does not know"
            )
        entrypoint = said.get("entrypoint", self.config.entrypoint)
        # With an entry point of its own a service does not take the image's command.
        command = said.get("command", () if "entrypoint" in said else self.config.cmd)
        cell = Cell(
            root=self.root,
            argv=[*entrypoint, *command],
            env=dict(self.config.env)
            | self._environment(said)
            | {"HOME": "/state", "HOSTNAME": name},
            workdir=self.config.workdir,
            user=self.config.user,
            mounts=[*map(self._mount, said.get("volumes", ())), self._hosts()],
            tmpfs=said.get("tmpfs", ()),
            read_only=said.get("read_only", False),
            bare=(said.get("cap_drop"), said.get("security_opt")) == _BARE,
            init=said.get("init", False),
            pid_of_host=said.get("pid") == "host",
        )
        grace = float(said.get("stop_grace_period", "10s").removesuffix("s"))
        test = said.get("healthcheck", {}).get("test", ["CMD"])
        return Service(name, cell, self.folder / f"{name}.log", grace, test[1:])

    def _mount(self, text: str) -> Mount:
        source, target, *mode = text.split(":")
        if source.startswith("."):
            return Mount(self.context / source, target, mode == ["ro"])
        volume = self.folder / "volumes" / source
        if not volume.exists():  # a new volume begins as what it covers
            volume.parent.mkdir(exist_ok=True)
            subprocess.run(["cp", "-a", f"{self.root}{target}", str(volume)], check=True)
        return Mount(volume, target, mode == ["ro"])

    def _environment(self, said: Mapping[str, Any]) -> dict[str, str]:
        """A name alone is taken from the caller, if it is set there."""
        lines = said.get("environment", ())
        passed = {name: self.environ[name] for name in lines if name in self.environ}
        return passed | dict(line.split("=", 1) for line in lines if "=" in line)

    def _hosts(self) -> Mount:
        """All are on one loopback, so each service's name is an address of it."""
        hosts = self.folder / "hosts"
        on = [name for name, said in self.compose["services"].items() if "profiles" not in said]
        hosts.write_text(f"127.0.0.1 localhost {' '.join(on)}\n")
        return Mount(hosts, "/etc/hosts", read_only=True)


@dataclass
class Service:
    name: str
    cell: Cell
    log_file: Path
    grace: float
    test: Sequence[str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log_file.open("wb") as output:
            self.process = self.cell.start(output)

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def wait(self, seconds: float) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def first(self) -> psutil.Process:
        assert self.process is not None
        return inside(self.process, self.cell.pid_of_host)

    def program(self) -> psutil.Process:
        """What init has started."""
        first = self.first()
        return first.children()[0] if self.cell.init else first

    def execute(self, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        """As `docker exec`."""
        cell = replace(self.cell, env={**self.cell.env, **env})
        return join(self.first().pid, argv, cell)

    def healthy(self) -> bool:
        return self.execute(*self.test).returncode == 0

    def until_healthy(self) -> float:
        """The seconds it took."""
        began = time.monotonic()
        while self.process is not None and self.process.poll() is None:
            if psutil.Process(self.process.pid).children() and self.healthy():
                return time.monotonic() - began
            if time.monotonic() - began > HEALTHY_IN:
                break
            time.sleep(0.1)
        raise Failed(f"{self.name} does not get well:\n{self.log()}")

    def stop(self) -> float:
        """As `docker stop`: SIGTERM, and SIGKILL after the grace. The seconds it took."""
        began = time.monotonic()
        self.first().terminate()
        try:
            self.wait(self.grace)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f"{self.name} did not end in its {self.grace:.0f} s") from None
        return time.monotonic() - began

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            self.process.kill()
            self.process.wait()

    def with_the_pids_of_the_host(self) -> Service:
        """So that whoever it leaves behind can be seen: else the kernel ends them with its init."""
        env = {**self.cell.env, "TINI_SUBREAPER": "1"}
        return replace(self, cell=replace(self.cell, pid_of_host=True, env=env))


def secret(log: str, name: str) -> str | None:
    """The key of that name, if the log shows it."""
    found = re.search(rf"^New key '{name}' .*\n(\S+)$", log, re.MULTILINE)
    return found[1] if found else None
