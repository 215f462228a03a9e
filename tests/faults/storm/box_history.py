"""What one box said of itself, and which processes it had: is it allowed, and do they agree?

Rule: no I/O and no clock. Statuses come in as they were sent, processes as /proc shows them.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

# From one snapshot to the very next: the edges of docs/architecture.md, what follows at once, and
# an end with a new start in the same moment.
EDGES = {
    "idle": {"starting"},
    "starting": {"ready", "stopping", "idle"},
    "ready": {"switching", "stopping", "idle", "starting"},
    "switching": {"ready", "stopping", "idle", "starting"},
    "stopping": {"idle", "starting"},
}
AGREE = 1.0  # seconds for which Status and processes may differ: what is sent takes a moment


@dataclass
class BoxHistory:
    """`breach(what, detail)` is told each thing that may not be."""

    name: str
    capacity: int  # bytes that engines may book
    drain: float  # seconds: of each model
    breach: Callable[[str, str], None]
    boot: str = ""
    seq: int = 0
    statuses: int = 0
    boots: int = 0
    models: dict[str, Json] = field(default_factory=dict)  # as last said
    _since: dict[str, float] = field(default_factory=dict)  # when the phase was first seen
    _differ: dict[str, tuple[str, float]] = field(default_factory=dict)

    def said(self, status: Json, now: float) -> None:
        """A Status that a watcher was sent, in the order of their coming."""
        models = {model["id"]: model for model in status["models"]}
        if status["boot"] != self.boot:
            self.boots += 1
            self.boot, self.models = status["boot"], {}
        elif status["seq"] <= self.seq:
            self.breach("a number that did not rise", f"{self.seq}, then {status['seq']}")
        adjoins, self.seq = status["seq"] == self.seq + 1, status["seq"]
        self.statuses += 1
        booked = sum(row["reserved"] for row in status["memory"])
        if booked > self.capacity:
            self.breach("more booked than there is", f"{booked} of {self.capacity}")
        for id, model in models.items():
            self._look(id, self.models.get(id), model, now, adjoins=adjoins)
        self.models = models

    def _look(
        self, id: str, before: Json | None, model: Json, now: float, *, adjoins: bool
    ) -> None:
        if not 0 <= model["in_flight"] <= model["slots"]:
            self.breach("in flight out of bounds", f"{id}: {model['in_flight']}")
        if before is None or before["phase"] == model["phase"]:
            self._since.setdefault(id, now)
            return
        edge = (before["phase"], model["phase"])
        if adjoins and edge[1] not in EDGES[edge[0]]:
            self.breach("a phase that cannot follow", f"{id}: {edge}")
        if adjoins and self._evicts(before, model, now - self._since.get(id, now)):
            self.breach("a busy model was evicted", f"{id}: {edge}, {before}")
        self._since[id] = now

    def _evicts(self, before: Json, model: Json, lasted: float) -> bool:
        """Told to go in the midst of answers, although it is well and its drain was not over."""
        told_to_go = (model["phase"], model["step"]) == ("stopping", "stopping current model")
        busy = before["in_flight"] and model["in_flight"]
        well = not model["error"]
        drained = before["phase"] == "switching" and lasted >= self.drain
        return bool(told_to_go and busy and well and not drained and before["phase"] != "starting")

    # Against /proc.

    def living(self, engines: Mapping[str, Collection[int]], now: float) -> None:
        """The pids of engine processes, by model; told about once a second, while the sidecar
        runs and is not frozen."""
        for id, model in self.models.items():
            pids = engines.get(id, ())
            if len(pids) > 1:
                self.breach("two engines of one model", f"{id}: {sorted(pids)}")
            self._compare(id, difference(model["phase"], pids), now)

    def _compare(self, id: str, differs: str, now: float) -> None:
        if not differs:
            self._differ.pop(id, None)
            return
        known, since = self._differ.setdefault(id, (differs, now))
        if known != differs:
            self._differ[id] = (differs, now)
        elif now - since > AGREE:
            self.breach("Status and processes differ", f"{id}: {differs}")
            self._differ[id] = (differs, now)

    def unsettled(self) -> None:
        """Its sidecar is frozen, or was a moment ago: what is said and what is may differ."""
        self._differ.clear()

    def away(self) -> None:
        """There is another sidecar, or none: what was said last is not said any more."""
        self.unsettled()
        self.models = {}

    def quiet(self) -> list[str]:
        """What is left to be done, when nobody asks any more."""
        counts = ("in_flight", "waiting")
        return [
            f"{self.name} {id}: {count} is {model[count]}"
            for id, model in self.models.items()
            for count in counts
            if model[count]
        ]


def difference(phase: str, pids: Collection[int]) -> str:
    """Between what is said of a model and the processes that it has; "" if there is none. While
    it starts or stops there may be one, or none any more."""
    if phase == "idle" and pids:
        return f"idle, and runs as {sorted(pids)}"
    if phase in ("ready", "switching") and not pids:
        return f"{phase}, and has no process"
    return ""


def right(models: Mapping[str, Json], engines: Mapping[str, Collection[int]]) -> bool:
    """Whether a Status says of each model what is true of its processes."""
    return not any(difference(model["phase"], engines.get(id, ())) for id, model in models.items())
