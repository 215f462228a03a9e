"""What http and e2e tests share: real programs with a bounded life, and ways to wait for them.

Rule: a test waits for something in `until` and nowhere else, and what a test starts ends with it.
"""

import inspect
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, overload

import anyio
import httpx
import psutil

from shared.sse import Decoder

ROOT = Path(__file__).resolve().parent.parent
ENGINE = ROOT / "tests" / "fakes" / "engine.py"
MARK = "SWAPYARD_TEST"
MARK_VALUE = f"{os.getpid()}-{uuid.uuid4().hex}"  # engines in sessions of their own inherit it
END_SECONDS = 10.0

# Below Linux's ephemeral ports (32768 and up): there another test's outgoing connection could
# take the port first, and a client that polls a dead port could be connected to itself.
# Suites that run side by side have ports of their own.
PORTS = range(20000 + int(os.environ.get("SWAPYARD_TEST_LANE", "0")), 30000, 2)

T = TypeVar("T")


def free_port() -> int:
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@overload
async def until(predicate: Callable[[], Awaitable[T | None]], timeout: float = ...) -> T: ...  # noqa: ASYNC109
@overload
async def until(predicate: Callable[[], T | None], timeout: float = ...) -> T: ...  # noqa: ASYNC109
async def until(
    predicate: Callable[[], object],
    timeout: float = 10.0,  # noqa: ASYNC109 - its failure says what was waited for
) -> object:
    """The first truthy value of `predicate`, polled each 5 ms."""
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {describe(predicate)} (last: {value!r})")
        await anyio.sleep(0.005)


def describe(predicate: Callable[[], object]) -> str:
    """Its docstring, else its source, which for a lambda is the line that it stands on."""
    if predicate.__doc__:
        return predicate.__doc__
    try:
        return inspect.getsource(predicate).strip()
    except (OSError, TypeError):
        return repr(predicate)


class Program:
    """A real process whose stdout and stderr go to a file; it never outlives its `async with`."""

    def __init__(
        self,
        argv: Sequence[str],
        tmp: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
    ) -> None:
        self._argv = list(argv)
        self._env = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {}), MARK: MARK_VALUE}
        self._cwd = cwd
        self._tmp = tmp

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.terminate()
        try:
            await self.wait(END_SECONDS)
        finally:
            self.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)

    async def wait(self, timeout: float = END_SECONDS) -> int:  # noqa: ASYNC109 - its failure shows the log
        """The exit status, as soon as there is one."""
        if self.code is None:
            with anyio.move_on_after(timeout):
                await self._exited()
        code = self.code
        assert code is not None, f"{self} did not end in {timeout} s; its log:\n{self.log()}"
        return code

    async def _exited(self) -> None:
        exit_watch = os.pidfd_open(self.pid)
        try:
            await anyio.wait_readable(exit_watch)
        finally:
            os.close(exit_watch)

    def __str__(self) -> str:
        return " ".join(self._argv)

    def _start(self) -> None:
        handle, name = tempfile.mkstemp(prefix="program-", suffix=".log", dir=self._tmp)
        self._log = Path(name)
        with os.fdopen(handle, "ab") as output:
            self._process = subprocess.Popen(
                self._argv,
                env=self._env,
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )


@dataclass(frozen=True)
class Server:
    url: str
    program: Program
    config_path: Path


def engine(tmp: Path, port: int, *switches: str, env: Mapping[str, str] | None = None) -> Program:
    """The fake engine program (tests/fakes/engine.py), started by the test itself."""
    return Program([sys.executable, str(ENGINE), "--port", str(port), *switches], tmp, env=env)


def sidecar(
    tmp: Path,
    yaml_text: str,
    *arguments: str,
    port: int | None = None,
    env: Mapping[str, str] | None = None,
) -> AbstractAsyncContextManager[Server]:
    """`python -m sidecar` on `tmp/sidecar.yaml`, up; give `port` to come back on the same one."""
    return _server("sidecar", tmp, yaml_text, arguments, port or free_port(), env)


def router(
    tmp: Path,
    yaml_text: str,
    *arguments: str,
    port: int | None = None,
    env: Mapping[str, str] | None = None,
) -> AbstractAsyncContextManager[Server]:
    """`python -m router` on `tmp/router.yaml`, up; give `port` to come back on the same one."""
    return _server("router", tmp, yaml_text, arguments, port or free_port(), env)


@asynccontextmanager
async def _server(
    module: str,
    tmp: Path,
    yaml_text: str,
    arguments: Sequence[str],
    port: int,
    env: Mapping[str, str] | None,
) -> AsyncIterator[Server]:
    address = f"127.0.0.1:{port}"
    config_path = tmp / f"{module}.yaml"
    config_path.write_text(f"listen: {address}\n{textwrap.dedent(yaml_text)}")
    argv = [sys.executable, "-m", module, "--config", str(config_path), *arguments]
    async with Program(argv, tmp, env=env) as program:
        url = f"http://{address}"
        await _up(program, url)
        yield Server(url, program, config_path)


async def _up(program: Program, url: str) -> None:
    async with client(url) as http:

        async def healthy() -> bool:
            """GET /healthz answers 200"""
            assert program.code is None, f"{program} ended with {program.code}"
            with suppress(httpx.TransportError):
                return (await http.get("/healthz")).status_code == 200
            return False

        try:
            await until(healthy)
        except AssertionError as failure:
            failure.add_note(f"its log:\n{program.log()}")
            raise


def client(url: str, *, timeout: float = 10.0) -> httpx.AsyncClient:
    """A client that no proxy variable leads away; `verify` off saves reading the CAs each time."""
    return httpx.AsyncClient(base_url=url, timeout=timeout, trust_env=False, verify=False)


@dataclass(frozen=True)
class Frame:
    event: str
    data: str
    at: float  # time.monotonic() when its last byte came


async def frames(response: httpx.Response) -> AsyncIterator[Frame]:
    """The events of a streaming answer as they arrive; comments are skipped."""
    decoder = Decoder()
    async for chunk in response.aiter_bytes():
        at = time.monotonic()
        for event in decoder.feed(chunk):
            yield Frame(event.event, event.data, at)


def children_of(pid: int) -> list[psutil.Process]:
    """All descendants that live; none when `pid` itself is gone."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def engines_of(sidecar: int) -> list[psutil.Process]:
    """The processes of a sidecar's engines: its descendants, but for its guard."""
    return [child for child in children_of(sidecar) if not is_guard(child)]


def is_guard(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return any(word.endswith("sidecar/guard.py") for word in process.cmdline())
    return False


def ours() -> set[psutil.Process]:
    """Every process that the tests caused: our descendants, and whoever bears our mark."""
    return {*children_of(os.getpid()), *filter(_marked, psutil.process_iter())}


def _marked(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.environ().get(MARK) == MARK_VALUE
    return False
