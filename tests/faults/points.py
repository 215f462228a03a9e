"""A sidecar that kills itself, as `kill -9` does, at a named instant of its life.

    python -m tests.faults.points NAME:NTH --config sidecar.yaml

It happens the NTH time. The product knows nothing of it: the function at that instant is wrapped,
and then the program's own `main` runs. A test holds each name against the product.
"""

import functools
import importlib
import inspect
import itertools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Literal, NamedTuple


class Point(NamedTuple):
    module: str
    path: str  # of the function in its module
    when: Literal["before", "after"]
    fact: str = ""  # only calls with this member of `Fact` among their arguments


def _at(where: str, when: Literal["before", "after"], fact: str = "") -> Point:
    module, _, path = where.partition(":")
    return Point(module, path, when, fact)


POINTS = {
    # It comes up.
    "folder-made": _at("sidecar.state:fcntl.flock", "before"),
    "lock-held": _at("sidecar.state:fcntl.flock", "after"),
    "secret-made": _at("sidecar.state:_secret", "after"),
    "address-taken": _at("shared.serve:listen", "after"),
    "journal-read": _at("sidecar.journal:Journal.read", "after"),
    "launches-read": _at("sidecar.launches:Launches.__init__", "after"),
    "adopting": _at("sidecar.adoption:take_over", "before"),
    "adopted": _at("sidecar.adoption:take_over", "after"),
    "supervising": _at("sidecar.supervisor:Supervisor.run", "before"),
    "serving": _at("shared.serve:serve", "before"),
    # It is asked.
    "demand-heard": _at("sidecar.supervisor:Supervisor.demand", "before"),
    "demand-settled": _at("sidecar.supervisor:Supervisor.demand", "after"),
    "planned": _at("sidecar.inventory:plan", "after"),
    "admitted": _at("sidecar.box:Box.admit", "after"),
    "released": _at("sidecar.box:Box.release", "before"),
    # An engine comes.
    "load-begins": _at("sidecar.machine:Machine.saw", "after", "WANTED"),
    "log-opened": _at("sidecar.process:Log.__init__", "after"),
    "spawning": _at("sidecar.process:Process.spawn", "before"),
    "spawned": _at("sidecar.process:Process.spawn", "after"),
    "launch-noting": _at("sidecar.launches:Launches.began", "before"),
    "launch-noted": _at("sidecar.launches:Launches.began", "after"),
    "alive-seen": _at("sidecar.box:Box.saw", "before", "ALIVE"),
    "ready-seen": _at("sidecar.box:Box.saw", "before", "HEALTHY"),
    "ready-settled": _at("sidecar.box:Box.saw", "after", "HEALTHY"),
    # An engine goes.
    "serving-noting": _at("sidecar.launches:Launches.serves", "before"),
    "serving-noted": _at("sidecar.launches:Launches.serves", "after"),
    "drain-begun": _at("sidecar.machine:Machine.saw", "after", "LET_GO"),
    "stop-signal": _at("sidecar.process:Process.signal", "before"),
    "stop-signalled": _at("sidecar.process:Process.signal", "after"),
    "exit-seen": _at("sidecar.process:Process._ended", "before"),
    "rest-ended": _at("sidecar.process:Process._end_the_rest", "after"),
    "exit-told": _at("sidecar.box:Box.saw", "before", "EXITED"),
    "exit-settled": _at("sidecar.box:Box.saw", "after", "EXITED"),
    "end-noted": _at("sidecar.launches:Launches.ended", "after"),
    # What others learn of it.
    "publishing": _at("sidecar.supervisor:Supervisor.publish", "before"),
    "published": _at("sidecar.supervisor:Supervisor.publish", "after"),
    "file-replacing": _at("sidecar.whole_file:os.replace", "before"),
    "file-replaced": _at("sidecar.whole_file:os.replace", "after"),
    "farewell": _at("sidecar.supervisor:Supervisor.close", "before"),
}


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


def main() -> None:
    said, *others = sys.argv[1:]
    name, nth = said.split(":")
    sys.argv = ["sidecar", *others]
    arm(POINTS[name], int(nth), lambda: os.kill(os.getpid(), signal.SIGKILL))
    importlib.import_module("sidecar.__main__").main()


if __name__ == "__main__":
    main()
