"""What a box says of itself: its state as one Status.

Rule 1: nothing is decided or remembered here; every field is read from the box or the snapshot.
Rule 2: this file does no I/O, reads no clock and never awaits.

`now` is the box's monotonic clock, `wall` the Unix time at the same moment.
"""

from __future__ import annotations

import math

from shared import status
from shared.status import (
    BUSIEST_FIRST,
    LEAVING,
    EtaSource,
    LoadError,
    MemoryRow,
    ModelStatus,
    Phase,
    PlanEntry,
    ProgressSource,
    Status,
    Step,
)
from sidecar.box import Box
from sidecar.demand import BY_HAND, Want
from sidecar.engine import Engine
from sidecar.memory import HOST, Memory, add, gpu, gpus_of
from sidecar.prospects import NEVER, Prospect
from sidecar.switches import Switch


def report(box: Box, seen: Memory, now: float, wall: float) -> Status:
    busiest = _busiest(box)
    wants = box.inventory.wants()
    prospects = box.inventory.prospects(wants, now)
    return Status(
        v=1,
        box=box.name,
        boot=box.boot,
        seq=box.seq,
        at=wall,
        phase=busiest.machine.phase if busiest else Phase.IDLE,
        step=busiest.machine.step if busiest else None,
        model=busiest.model.id if busiest else None,
        switches=tuple(_switch(box, switch, now) for switch in box.switches.values()),
        models=tuple(
            _model(box, engine, wants.get(id), prospects.get(id, NEVER), now, wall)
            for id, engine in box.engines.items()
        ),
        memory=_memory(box, seen),
        plan=_plan(box),
        problems=_problems(box, seen),
    )


def _busiest(box: Box) -> Engine | None:
    for phase in BUSIEST_FIRST[:-1]:
        in_phase = [e for e in box.engines.values() if e.machine.phase is phase]
        if in_phase:
            return max(in_phase, key=lambda engine: engine.machine.last_used)
    return None


def _model(
    box: Box, engine: Engine, want: Want | None, prospect: Prospect, now: float, wall: float
) -> ModelStatus:
    model, machine = engine.model, engine.machine
    load, source = engine.history.load_estimate()
    progress, progress_source = _progress(engine, now)
    eta, eta_source = _eta(box.switches.get(model.id), now)
    waiting = sum(n for p, n in want.waiting.items() if p != BY_HAND) if want else 0
    return ModelStatus(
        id=model.id,
        phase=machine.phase,
        step=machine.step or (Step.AWAITING_VRAM if model.id in box.ledger.stuck else None),
        in_flight=machine.in_flight,
        slots=model.slots,
        waiting=waiting,
        routers=want.routers if want else 0,
        memory_bytes=engine.need,
        memory_source=engine.source,
        measured_bytes=box.ledger.measured(engine),
        load_s=_rounded(load),
        load_source=source,
        progress=progress,
        progress_source=progress_source,
        eta_s=eta,
        eta_source=eta_source,
        service_s=_rounded(engine.history.service),
        ready_in_s=_rounded(prospect.ready_in),
        disturbs_s=round(prospect.disturbs, 3),
        pinned=model.pinned,
        expires_in_s=_expires_in(engine, now),
        gpus=gpus_of(engine.booking),
        error=_error(box, engine, now, wall),
    )


def _expires_in(engine: Engine, now: float) -> float | None:
    """Seconds until it leaves if nobody asks for it; None while it does not count."""
    machine = engine.machine
    if machine.phase is not Phase.READY or machine.in_flight or engine.expires_at == math.inf:
        return None
    return round(max(0.0, engine.expires_at - now), 3)


def _eta(switch: Switch | None, now: float) -> tuple[float | None, EtaSource | None]:
    """Seconds until the model is ready, and from what that is known."""
    left = switch.promise.left(now) if switch else None
    return (
        (None, None) if switch is None or left is None else (round(left, 3), switch.promise.source)
    )


def _progress(engine: Engine, now: float) -> tuple[float | None, ProgressSource | None]:
    return engine.load.progress(now) if engine.load else (None, None)


def _error(box: Box, engine: Engine, now: float, wall: float) -> LoadError | None:
    impossible = box.fit_problem(engine.model.id)
    if impossible is not None:
        return LoadError("does_not_fit", "vram_oom", impossible, at=0.0)
    failure = engine.machine.failure
    if failure is None:
        return None
    retry_in = engine.machine.retry_at - now
    return LoadError(
        code=failure.code,
        cause=failure.cause,
        message=failure.message,
        at=round(wall - (now - failure.at), 3),
        retry_in_s=_rounded(retry_in) if retry_in > 0 else None,
        log_tail=failure.log_tail,
    )


def _switch(box: Box, switch: Switch, now: float) -> status.Switch:
    target = box.engines[switch.to]
    shown = _shown(box, switch)
    machine = shown.machine
    progress, progress_source = _progress(target, now)
    eta, eta_source = _eta(switch, now)
    return status.Switch(
        id=switch.id,
        to=switch.to,
        from_=switch.from_,
        phase=machine.phase,
        step=machine.step or Step.STARTING,
        elapsed_s=round(now - switch.began, 3),
        progress=progress,
        progress_source=progress_source,
        eta_s=eta,
        eta_source=eta_source,
    )


def _shown(box: Box, switch: Switch) -> Engine:
    """Whose phase tells where the switch is: the model's own once it starts; before, the
    busiest of those that must leave for it."""
    target = box.engines[switch.to]
    if target.machine.phase is Phase.STARTING:
        return target
    leaving = [box.engines[name] for name in switch.from_] or list(box.engines.values())
    for phase in LEAVING:
        for engine in leaving:
            if engine.machine.phase is phase:
                return engine
    return target


def _memory(box: Box, seen: Memory) -> tuple[MemoryRow, ...]:
    reserved = add(engine.booking for engine in box.engines.values())
    rows = [
        MemoryRow(
            kind="gpu",
            index=g.index,
            uuid=g.uuid,
            name=g.name,
            total=g.total,
            used=g.used,
            free=g.total - g.used,
            reserved=reserved.get(gpu(g.index), 0),
            strangers=box.ledger.strangers.get(gpu(g.index), 0),
            utilisation=g.utilisation,
        )
        for g in seen.gpus
    ]
    host = MemoryRow(
        kind="host",
        total=seen.host.total,
        used=seen.host.used,
        free=seen.host.free,
        reserved=reserved.get(HOST, 0),
        strangers=max(0, seen.host.used - box.ledger.held(HOST)),
    )
    return (*rows, host)


def _plan(box: Box) -> tuple[PlanEntry, ...]:
    """What is being done and what waits, with the reason for each; what comes first, first."""
    entries = []
    for id, engine in box.engines.items():
        if engine.machine.phase in LEAVING:
            entries.append(PlanEntry("drain", id, engine.because))
    for id, engine in box.engines.items():
        if engine.machine.phase is Phase.STARTING:
            entries.append(PlanEntry("start", id, engine.because))
    entries += [PlanEntry("start", claim.model, claim.because) for claim in box.inventory.claims]
    entries += [PlanEntry("wait", wait.model, wait.because) for wait in box.waits]
    return tuple(entries)


def _problems(box: Box, seen: Memory) -> tuple[str, ...]:
    problems = [p for id in box.engines if (p := box.fit_problem(id)) is not None]
    problems += [f"{id}: {obstacle.how}" for id, obstacle in box.inventory.obstacles.items()]
    problems += [f"preload: there was no room for {id}" for id in box.inventory.left_out]
    problems += map(str, box.ledger.lost)
    problems += [_unkillable(e) for e in box.engines.values() if e.machine.unkillable]
    problems += [box.trouble] if box.trouble else []
    return tuple(problems) + ((seen.problem,) if seen.problem else ())


def _unkillable(engine: Engine) -> str:
    gpus = [f"GPU {index}" for index in gpus_of(engine.booking)]
    fence = f"; nothing is started on {' and '.join(gpus)}" if gpus else ""
    whose = "" if engine.leader is None else f" (pid {engine.leader}, or others of its session)"
    said = f"{engine.model.id}: its process cannot be ended{whose}{fence}"
    return f"{said}; if it stays, the machine may need a reboot"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
