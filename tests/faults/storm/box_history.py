"""What one box said of itself, and which processes it had: is it allowed, and do they agree?

Rule: no I/O and no clock. Statuses come in as they were sent, processes as /proc shows them.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

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


class Living(NamedTuple):
    """The processes of one model, by pid."""

    engines: Collection[int] = ()
    children: Collection[int] = ()


NOBODY = Living()


@dataclass
class BoxHistory:
    """`breach(what, detail)` is told each thing that may not be."""

    name: str
    needs: Mapping[str, int]  # bytes that each model has declared
    capacity: int  # bytes that engines may take
    drain: float  # seconds: of each model
    breach: Callable[[str, str], None]
    boot: str = ""
    seq: int = 0
    statuses: int = 0
    adjoining: int = 0  # of them, those that followed the one before: only there edges are judged
    boots: int = 0
    looks: int = 0  # at its processes
    models: dict[str, Json] = field(default_factory=dict)  # as last said
    ready: dict[str, float] = field(default_factory=dict)  # since when it was last said to be
    _since: dict[str, float] = field(default_factory=dict)  # when the phase was first seen
    _differ: dict[str, tuple[str, float]] = field(default_factory=dict)

    def said(self, status: Json, now: float) -> None:
        """A Status that a watcher was sent, in the order of their coming."""
        models = {model["id"]: model for model in status["models"]}
        if status["boot"] != self.boot:
            self.boots += 1
            self.boot, self.models = status["boot"], {}
            self._since.clear()
        elif status["seq"] <= self.seq:
            self.breach("a number that did not rise", f"{self.seq}, then {status['seq']}")
        adjoins = bool(self.models) and status["seq"] == self.seq + 1
        self.seq = status["seq"]
        self.statuses += 1
        self.adjoining += adjoins
        booked = sum(row["reserved"] for row in status["memory"])
        if booked > self.capacity:
            self.breach("more booked than there is", f"{booked} of {self.capacity}")
        for id, model in models.items():
            self._look(id, self.models.get(id), model, now, adjoins=adjoins)
        self.models = models
        now_ready = [id for id, model in models.items() if model["phase"] == "ready"]
        self.ready = {id: self.ready.get(id, now) for id in now_ready}

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

    def room(self, living: Mapping[str, Living]) -> None:
        """What lived through one and the same moment, whoever was to see to it then."""
        self.looks += 1
        taken = 0
        for id, (engines, children) in living.items():
            if len(engines) > 1:
                self.breach("two engines of one model", f"{id}: {sorted(engines)}")
            taken += self.needs[id] * max(len(engines), bool(children))
        if taken > self.capacity:
            there = {id: pids for id, pids in living.items() if any(pids)}
            self.breach("more runs than there is room for", f"{taken} of {self.capacity}: {there}")

    def living(self, living: Mapping[str, Living], now: float) -> None:
        """Told about once a second, while the sidecar runs and is not frozen."""
        for id, model in self.models.items():
            self._compare(id, difference(model["phase"], living.get(id, NOBODY)), now)

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
        self._since.clear()


def difference(phase: str, living: Living) -> str:
    """Between what is said of a model and the processes that it has; "" if there is none. While
    it starts or stops there may be one, or none any more."""
    if phase == "idle" and any(living):
        return f"idle, and runs as {sorted([*living.engines, *living.children])}"
    if phase in ("ready", "switching") and not living.engines:
        return f"{phase}, and has no process"
    return ""


def right(models: Mapping[str, Json], living: Mapping[str, Living]) -> bool:
    """Whether a Status says of each model what is true of its processes."""
    return not any(
        difference(model["phase"], living.get(id, NOBODY)) for id, model in models.items()
    )
