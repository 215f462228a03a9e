"""The last launch of each model, running or not, and what is written down of it for the next
sidecar.

It decides nothing: what is started and stopped is the box's to say.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import httpx

from sidecar import port
from sidecar.adoption import Found
from sidecar.engines.launch import Launch
from sidecar.launcher import Launcher
from sidecar.launches import Launched, Launches
from sidecar.memory import Bytes, Gpu
from sidecar.runner import Listener, Runner
from sidecar.state import StateFolder


class Runners:
    """`http`: asks engines whether they can serve."""

    def __init__(
        self,
        folder: StateFolder,
        launcher: Launcher,
        launches: Launches,
        http: httpx.AsyncClient,
    ) -> None:
        self._folder = folder
        self._launcher = launcher
        self._launches = launches
        self._http = http
        self._runners: dict[str, Runner] = {}
        self._lost: str | None = None  # the folder

    def start(self, model: str, booking: Bytes, there: Sequence[Gpu], tell: Listener) -> Runner:
        """A process of its own. `there`: the GPUs."""
        id = secrets.token_hex(8)
        launch = self._launcher.launch(model, id, port.free(), booking, there)
        runner = self._runner(model, id, launch, tell)
        runner.spawn()
        if runner.identity is not None:
            self._launches.began(
                model,
                Launched(
                    id,
                    runner.identity,
                    launch.port,
                    booking,
                    self._launcher.digest(model),
                    self._launcher.shown(model, booking, there),
                    stop_command=tuple(launch.stop_command),
                ),
            )
        return runner

    def adopt(self, model: str, found: Found, tell: Listener) -> Runner:
        """A process that runs already. OSError if its log cannot be read."""
        runner = self._runner(model, found.launched.id, found.launch, tell)
        runner.adopt(found.process, serves=found.serves)
        return runner

    def stop(self, model: str, *, force: bool) -> None:
        self._launches.serves(model, False)  # first: what is told to go is not taken over
        if model in self._runners:  # or it could not even be started, and its end is being told
            self._runners[model].stop(force=force)

    def force(self) -> None:
        """All of them, at once."""
        for runner in self._runners.values():
            runner.stop(force=True)

    def leave(self) -> None:
        """All of them, to the next sidecar."""
        for runner in self._runners.values():
            runner.leave()

    def note(self, model: str, *, serves: bool) -> None:
        """For whoever comes after us."""
        if model in self._runners and self._runners[model].has_ended:
            self._launches.ended(model)
        else:
            self._launches.serves(model, serves)

    def launch(self, model: str) -> Launch:
        return self._runners[model].launch

    def listens(self, port: int) -> bool:
        """Whether it is an engine of ours that has this port, at this very moment."""
        return any(it.launch.port == port and it.lives for it in self._runners.values())

    def is_deaf(self, model: str) -> bool:
        """Whether nobody of the model's engine takes connections any more."""
        return self._runners[model].is_deaf()

    def tail(self, model: str, lines: int) -> tuple[str, ...]:
        """The last lines of the model's engine, or of its last one."""
        return self._runners[model].tail(lines) if model in self._runners else ()

    @property
    def leaders(self) -> dict[str, int]:
        """By model, the process that leads its engine's session."""
        return {id: pid for id, runner in self._runners.items() if (pid := runner.leader)}

    def look_at_folder(self) -> None:
        """What it holds is of use only as long as it is ours."""
        self._lost = self._folder.trouble

    @property
    def trouble(self) -> str | None:
        """Why engines of ours may not be taken over by whoever comes after us."""
        return self._lost or self._launches.trouble

    def _runner(self, model: str, id: str, launch: Launch, tell: Listener) -> Runner:
        log, fifo = self._folder.log(model, id), self._folder.fifo(id)
        runner = self._runners[model] = Runner(launch, log, fifo, tell, self._http)
        return runner
