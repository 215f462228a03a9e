"""The demo's models are made the same way everywhere, and once."""

import subprocess
import sys
from pathlib import Path

import gguf

from sidecar.header import read
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


def odd_model(path: Path, heads: int, kv_heads: int | list[int]) -> Path:
    writer = gguf.GGUFWriter(path, "odd")
    writer.add_context_length(4096)
    writer.add_embedding_length(64)
    writer.add_block_count(4)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_a_header_of_a_hybrid_model_counts_each_layer(tmp_path: Path) -> None:
    shape = read(odd_model(tmp_path / "hybrid.gguf", 8, [0, 8, 0, 8]))
    assert shape is not None
    assert (shape.kv_heads, shape.key_length) == (16, 8)


def test_a_header_of_a_model_without_attention_has_no_cache(tmp_path: Path) -> None:
    shape = read(odd_model(tmp_path / "mamba.gguf", 0, 0))
    assert shape is not None
    assert (shape.kv_heads, shape.key_length) == (0, 0)


def test_what_is_no_model_has_no_header(tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_text("models: {}")
    assert read(tmp_path / "no.gguf") is None
    assert read(tmp_path / "nowhere.gguf") is None
