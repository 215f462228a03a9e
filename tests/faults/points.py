"""A program of ours that ends, waits or fails at a named instant of its life.

    python -m tests.faults.points NAME:NTH:ACTION sidecar --config sidecar.yaml

ACTION is what happens the NTH time: `kill` (as `kill -9` does), `raise`, or `block:SECONDS`. The
product knows nothing of it: the function at that instant is wrapped, and then the program's own
`main` runs. A test holds each name against the product.
"""

import functools
import importlib
import inspect
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple


class Point(NamedTuple):
    program: str
    module: str
    path: str  # of the function in its module
    when: Literal["before", "after"]
    fact: str = ""  # only calls with this member of `Fact` among their arguments


def _sidecar(where: str, when: Literal["before", "after"], fact: str = "") -> Point:
    module, _, path = where.partition(":")
    return Point("sidecar", module, path, when, fact)


def _router(where: str, when: Literal["before", "after"]) -> Point:
    module, _, path = where.partition(":")
    return Point("router", module, path, when)


POINTS = {
    # It comes up.
    "folder-made": _sidecar("sidecar.state:fcntl.flock", "before"),
    "lock-held": _sidecar("sidecar.state:fcntl.flock", "after"),
    "secret-made": _sidecar("sidecar.state:_secret", "after"),
    "address-taken": _sidecar("shared.serve:listen", "after"),
    "journal-read": _sidecar("sidecar.journal:Journal.read", "after"),
    "launches-read": _sidecar("sidecar.launches:Launches.__init__", "after"),
    "adopting": _sidecar("sidecar.adoption:take_over", "before"),
    "adopted": _sidecar("sidecar.adoption:take_over", "after"),
    "supervising": _sidecar("sidecar.supervisor:Supervisor.run", "before"),
    "serving": _sidecar("shared.serve:serve", "before"),
    # It is asked.
    "demand-heard": _sidecar("sidecar.supervisor:Supervisor.demand", "before"),
    "demand-settled": _sidecar("sidecar.supervisor:Supervisor.demand", "after"),
    "planned": _sidecar("sidecar.inventory:plan", "after"),
    "admitted": _sidecar("sidecar.box:Box.admit", "after"),
    "released": _sidecar("sidecar.box:Box.release", "before"),
    # An engine comes.
    "load-begins": _sidecar("sidecar.machine:Machine.saw", "after", "WANTED"),
    "log-opened": _sidecar("sidecar.process:Log.__init__", "after"),
    "spawning": _sidecar("sidecar.process:Process.spawn", "before"),
    "spawned": _sidecar("sidecar.process:Process.spawn", "after"),
    "launch-noting": _sidecar("sidecar.launches:Launches.began", "before"),
    "launch-noted": _sidecar("sidecar.launches:Launches.began", "after"),
    "alive-seen": _sidecar("sidecar.box:Box.saw", "before", "ALIVE"),
    "ready-seen": _sidecar("sidecar.box:Box.saw", "before", "HEALTHY"),
    "ready-settled": _sidecar("sidecar.box:Box.saw", "after", "HEALTHY"),
    # An engine goes.
    "serving-noting": _sidecar("sidecar.launches:Launches.serves", "before"),
    "serving-noted": _sidecar("sidecar.launches:Launches.serves", "after"),
    "drain-begun": _sidecar("sidecar.machine:Machine.saw", "after", "LET_GO"),
    "stop-signal": _sidecar("sidecar.process:Process.signal", "before"),
    "stop-signalled": _sidecar("sidecar.process:Process.signal", "after"),
    "exit-seen": _sidecar("sidecar.process:Process._ended", "before"),
    "rest-ended": _sidecar("sidecar.process:Process._end_the_rest", "after"),
    "exit-told": _sidecar("sidecar.box:Box.saw", "before", "EXITED"),
    "exit-settled": _sidecar("sidecar.box:Box.saw", "after", "EXITED"),
    "end-noted": _sidecar("sidecar.launches:Launches.ended", "after"),
    # What others learn of it.
    "publishing": _sidecar("sidecar.supervisor:Supervisor.publish", "before"),
    "published": _sidecar("sidecar.supervisor:Supervisor.publish", "after"),
    "file-replacing": _sidecar("sidecar.whole_file:os.replace", "before"),
    "file-replaced": _sidecar("sidecar.whole_file:os.replace", "after"),
    "farewell": _sidecar("sidecar.supervisor:Supervisor.close", "before"),
    # The router.
    "status-heard": _router("router.dispatch:Dispatch.heard", "before"),
    "asked": _router("router.dispatch:Dispatch.came", "before"),
}


def of(program: str) -> list[str]:
    return [name for name, point in POINTS.items() if point.program == program]


def found(point: Point) -> tuple[Any, str, Any]:
    """Who holds the function, under which name, and the function. AttributeError if nobody does."""
    owner: Any = importlib.import_module(point.module)
    *way, name = point.path.split(".")
    for step in way:
        owner = getattr(owner, step)
    getattr(owner, name)
    return owner, name, inspect.getattr_static(owner, name)


def arm(point: Point, nth: int, act: Callable[[], None]) -> None:
    owner, name, function = found(point)
    count = itertools.count(1)

    def meets(when: str, arguments: tuple[Any, ...]) -> None:
        named = not point.fact or any(getattr(a, "name", "") == point.fact for a in arguments)
        if when == point.when and named and next(count) == nth:
            act()

    if isinstance(function, classmethod):
        setattr(owner, name, classmethod(wrapped(function.__func__, meets)))
    else:
        setattr(owner, name, wrapped(function, meets))


def wrapped(function: Any, meets: Callable[[str, tuple[Any, ...]], None]) -> Any:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def later(*args: Any, **kwargs: Any) -> Any:
            meets("before", args)
            result = await function(*args, **kwargs)
            meets("after", args)
            return result

        return later

    @functools.wraps(function)
    def now(*args: Any, **kwargs: Any) -> Any:
        meets("before", args)
        result = function(*args, **kwargs)
        meets("after", args)
        return result

    return now


def action(said: str) -> Callable[[], None]:
    what, _, seconds = said.partition(":")
    match what:
        case "kill":
            return lambda: os.kill(os.getpid(), signal.SIGKILL)
        case "block":
            return functools.partial(time.sleep, float(seconds))
        case "raise":
            return _fail
    raise ValueError(f"no such action: {said}")


def _fail() -> None:
    raise RuntimeError("told to fail here")


def main() -> None:
    said, program, *others = sys.argv[1:]
    name, nth, what = said.split(":", 2)
    sys.argv = [program, *others]
    arm(POINTS[name], int(nth), action(what))
    importlib.import_module(f"{program}.__main__").main()


if __name__ == "__main__":
    main()
