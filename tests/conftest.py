"""What holds for every test: one async backend, and nothing left behind.

Rule: a fixture here guards, but for the one that compiles; what tests use on purpose is in
`tests/harness.py`.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

HERE = Path(__file__).resolve().parent
FAKE_NVML = HERE / "fakes" / "fakenvml.c"
# What was told to end may need a moment more, such as a guard that sees its sidecar's pipe close.
GRACE_SECONDS = 2.0


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def fake_nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the fake libnvidia-ml.so.1."""
    folder = tmp_path_factory.mktemp("nvml")
    library = folder / "libnvidia-ml.so.1"
    flags = ("-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
    subprocess.run(["gcc", *flags, "-o", library, FAKE_NVML], check=True)
    return folder


@pytest.fixture(autouse=True)
def _no_process_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    if not any(
        request.path.is_relative_to(HERE / part) for part in ("http", "e2e", "faults", "hermes")
    ):
        yield
        return
    from tests.harness import ours  # not on top: core tests have no use for httpx

    before = ours()
    yield
    _, left = psutil.wait_procs(ours() - before, timeout=GRACE_SECONDS)
    if left:
        report = ", ".join(f"{process.pid} {_command(process)}" for process in left)
        _end(left)
        pytest.fail(f"processes left behind: {report}", pytrace=False)


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()) or "(zombie)"
    except psutil.Error:
        return "(ended meanwhile)"


def _end(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=GRACE_SECONDS)
