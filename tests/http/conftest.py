"""What several files of these tests start from."""

import subprocess
from pathlib import Path

import pytest

from tests.harness import ROOT

FAKE_NVML = ROOT / "tests" / "fakes" / "fakenvml.c"


@pytest.fixture(scope="session")
def fake_nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the fake libnvidia-ml.so.1."""
    folder = tmp_path_factory.mktemp("nvml")
    library = folder / "libnvidia-ml.so.1"
    flags = ("-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
    subprocess.run(["gcc", *flags, "-o", library, FAKE_NVML], check=True)
    return folder
