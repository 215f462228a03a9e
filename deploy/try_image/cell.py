"""One process in a root of its own, by the kernel's namespaces, as a container engine starts it.

Rule: everything is mounted inside the process's own mount namespace, which the kernel takes away
with it: nothing is left mounted, however it ends.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
APART = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL"]
INIT = "/usr/bin/tini-static"  # what Docker calls docker-init


@dataclass(frozen=True)
class Mount:
    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class Cell:
    root: Path
    argv: Sequence[str]
    env: Mapping[str, str]
    workdir: str = "/"
    user: str = "0:0"
    mounts: Sequence[Mount] = field(default_factory=list)
    tmpfs: Sequence[str] = ()
    read_only: bool = False
    bare: bool = False  # no capabilities, and no new privileges
    init: bool = False
    pid_of_host: bool = False

    def start(self, output: IO[bytes] | int | None = None) -> subprocess.Popen[bytes]:
        """In a session of its own, so that Ctrl-C reaches the player alone."""
        spaces = ["unshare", "--mount"] if self.pid_of_host else APART
        argv = [*spaces, "sh", "-euc", self._script(), "sh", *self._program()]
        return subprocess.Popen(
            argv,
            env=dict(self.env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output is not None else None,
            start_new_session=True,
        )

    def run(self) -> subprocess.CompletedProcess[str]:
        with self.start(subprocess.PIPE) as process:
            try:
                said = process.communicate()[0].decode(errors="replace")
            except BaseException:
                process.kill()  # and so, by its own word, everything in there
                raise
            return subprocess.CompletedProcess(self.argv, process.returncode, said)

    def _program(self) -> list[str]:
        uid, gid = self.user.split(":")
        caps = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"] if self.bare else []
        user = ["setpriv", "--reuid", uid, "--regid", gid, "--clear-groups", *caps]
        init = ["/dev/init", "--"] if self.init else []
        return ["env", f"--chdir={self.workdir}", *user, *init, *self.argv]

    def _script(self) -> str:
        """The root is bound to itself, so that it can be read-only here and nowhere else."""
        root = shlex.quote(str(self.root))
        device = [f"touch dev/{name}; mount --bind /dev/{name} dev/{name}" for name in DEVICES]
        return "\n".join(
            [
                f"mount --bind {root} {root}",
                f"cd {root}",
                "mount -t proc proc proc",
                "mount -t tmpfs -o mode=755 tmpfs dev",
                *device,
                "mkdir dev/shm; mount -t tmpfs tmpfs dev/shm",
                f"cp {INIT} dev/init" if self.init else ":",
                *(f"mount -t tmpfs -o noexec,nosuid,nodev tmpfs .{path}" for path in self.tmpfs),
                *(line for mount in self.mounts for line in self._bind(mount)),
                f"mount -o remount,bind,ro {root}" if self.read_only else ":",
                'exec chroot . "$@"',
            ]
        )

    def _bind(self, mount: Mount) -> list[str]:
        source, target = shlex.quote(str(mount.source)), shlex.quote(f".{mount.target}")
        make = "touch" if mount.source.is_file() else "mkdir -p"
        read_only = [f"mount -o remount,bind,ro {target}"] if mount.read_only else []
        return [
            f"test -e {target} || {make} {target}",
            f"mount --bind {source} {target}",
            *read_only,
        ]


def inside(process: subprocess.Popen[bytes], pid_of_host: bool) -> psutil.Process:
    """The first process in there: its init, or the program itself."""
    outer = psutil.Process(process.pid)
    return outer if pid_of_host else outer.children()[0]


def join(pid: int, argv: Sequence[str], cell: Cell) -> subprocess.CompletedProcess[str]:
    """Another command in the same container, as `docker exec` and health checks run it."""
    uid, gid = cell.user.split(":")
    spaces = ["nsenter", f"--target={pid}", "--mount", "--pid", "--root"]
    user = ["setpriv", "--reuid", uid, "--regid", gid, "--clear-groups", "--bounding-set=-all"]
    return subprocess.run(
        [*spaces, "env", f"--chdir={cell.workdir}", *user, *argv],
        env=dict(cell.env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
