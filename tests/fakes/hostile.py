"""Engines that do not want to end: children of every kind, and ways to take the polite signal.

Rule: a child is a real process that is in the journal before the engine is ready. Standard library
only, and nothing that is slow to import.
"""

import argparse
import os
import resource
import signal
import time
from collections.abc import Callable
from typing import NoReturn

FLOOD = b"fake engine: blah blah blah\n" * 512
FLOOD_PAUSE = 0.01  # seconds: much of a core, and some megabytes each second

_PR_SET_PTRACER, _ANYBODY = 0x59616D61, -1

Write = Callable[..., None]


def add_switches(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--fork", type=int, default=0, metavar="N", help="so many children in its group")
    add("--double-fork", action="store_true", help="a grandchild whose parent is gone")
    add("--setsid-child", action="store_true", help="a child in a session of its own")
    add("--clean-child", action="store_true", help="the same, without any environment")
    add("--children-vram", default="", metavar="[GPU:]MIB", help="what each child takes")
    add("--deaf-children", action="store_true", help="they ignore SIGTERM, it need not")
    add("--flood", action="store_true", help="a child writes to stderr as fast as it can")
    add("--stops-itself", action="store_true", help="it is frozen once its first 200 is out")
    add("--any-tracer", action="store_true", help="whoever wants may hold it (tracer.py)")
    add("--crash-in-stop", action="store_true", help="it aborts at the polite signal")
    add("--daemon", action="store_true", help="a clean grandchild that nothing leads to, for 1 s")


def beget(switches: argparse.Namespace, journal: Write, take_vram: Callable[[], None]) -> None:
    """The children; they hear the polite signal as the engine does, or are deaf with it."""
    if switches.any_tracer:
        _let_anybody_trace()
    deaf = switches.deaf or switches.deaf_children

    def child(kind: str, live: Callable[[], NoReturn]) -> None:
        pid = os.fork()
        if pid:
            return
        if switches.any_tracer:
            _let_anybody_trace()
        signal.signal(signal.SIGTERM, signal.SIG_IGN if deaf else signal.SIG_DFL)
        if kind in ("setsid", "clean", "daemon"):
            os.setsid()
        if kind in ("double", "daemon") and os.fork():
            os._exit(0)
        take_vram()
        journal("child", kind=kind)
        live()

    for _ in range(switches.fork):
        child("fork", _wait)
    if switches.double_fork:
        child("double", _wait)
        os.wait()
    if switches.setsid_child:
        child("setsid", _wait)
    if switches.clean_child:
        child("clean", lambda: _sleep("3600"))
    if switches.daemon:
        child("daemon", lambda: _sleep("1"))
        os.wait()
    if switches.flood:
        child("flood", _flood)


def freeze() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def crash() -> NoReturn:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # nobody wants its memory
    os.abort()


def _let_anybody_trace() -> None:
    """Where Yama lets only parents do so. Elsewhere the kernel knows no such call."""
    import ctypes  # slow: only who is to be traced has a use for it

    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANYBODY, 0, 0, 0)


def _wait() -> NoReturn:
    while True:
        signal.pause()


def _sleep(seconds: str) -> NoReturn:
    """What is ignored stays so; of the environment nothing stays."""
    os.execve("/bin/sleep", ["sleep", seconds], {})


def _flood() -> NoReturn:
    while True:
        os.write(2, FLOOD)
        time.sleep(FLOOD_PAUSE)
