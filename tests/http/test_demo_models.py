"""The demo's models are made the same way everywhere, and once."""

import subprocess
import sys
from pathlib import Path

import gguf

from tests.harness import ROOT

PROGRAM = ROOT / "examples" / "demo" / "make_models.py"


def make(folder: Path) -> tuple[Path, str]:
    """The model's file, and what was said meanwhile."""
    argv = [sys.executable, str(PROGRAM), "tiny", "--folder", str(folder)]
    said = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30).stdout
    return folder / "tiny.gguf", said


def test_a_model_is_the_same_bytes_wherever_it_is_made(tmp_path: Path) -> None:
    one, _ = make(tmp_path / "one")
    other, _ = make(tmp_path / "other")
    assert one.read_bytes() == other.read_bytes()
    assert one.stat().st_size < 1_000_000


def test_a_models_header_tells_a_context_that_agents_accept(tmp_path: Path) -> None:
    path, _ = make(tmp_path)
    field = gguf.GGUFReader(path).get_field("llama.context_length")
    assert field is not None
    assert field.contents() == 131072


def test_a_model_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    path, said = make(tmp_path)
    first = path.stat()
    assert said.count("\n") == 1
    assert make(tmp_path) == (path, "")
    assert path.stat() == first


def test_only_the_finished_model_stays_in_the_folder(tmp_path: Path) -> None:
    path, _ = make(tmp_path)
    assert list(tmp_path.iterdir()) == [path]
