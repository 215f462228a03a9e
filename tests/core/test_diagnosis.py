from __future__ import annotations

import errno
import signal

import pytest

from sidecar.diagnosis import LINES_TOLD, could_not_start, diagnose, ended
from sidecar.machine import Cause


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("CUDA error: out of memory", "vram_oom"),
        ("ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed", "vram_oom"),
        ("failed to allocate buffer of size 1024", "vram_oom"),
        ("bind: Address already in use", "port_in_use"),
        ("couldn't bind HTTP server socket", "port_in_use"),
        ("error: invalid argument: --frob", "bad_flag"),
        ("serve.py: error: unrecognized arguments: --frob", "bad_flag"),
        ("gguf_init_from_file: failed to open GGUF file", "file_missing"),
        ("No such file or directory", "file_missing"),
        ("Segmentation fault", "crashed"),
    ],
)
def test_the_last_lines_of_an_engine_tell_the_cause_of_its_end(line: str, cause: Cause) -> None:
    exit = diagnose(1, ["starting", line])
    assert exit.cause == cause
    assert exit.how == "exited with code 1"
    assert exit.last_words == line


def test_an_engine_out_of_memory_may_complain_of_a_file_afterwards() -> None:
    assert diagnose(1, ["out of memory", "failed to open model"]).cause == "vram_oom"


def test_an_end_without_words_is_a_crash() -> None:
    exit = diagnose(-signal.SIGSEGV, [])
    assert (exit.cause, exit.how, exit.last_words) == ("crashed", "ended by SIGSEGV", "")


def test_only_the_last_lines_count_and_are_told() -> None:
    exit = diagnose(1, ["out of memory", *(f"line {n}" for n in range(LINES_TOLD))])
    assert exit.cause == "crashed"
    assert exit.log_tail == tuple(f"line {n}" for n in range(LINES_TOLD))


def test_empty_lines_are_no_last_words() -> None:
    assert diagnose(1, ["boom ", "", "  "]).last_words == "boom"


def test_a_signal_without_a_name_is_told_by_its_number() -> None:
    assert ended(-signal.SIGKILL) == "ended by SIGKILL"
    assert ended(-(signal.SIGRTMIN + 1)) == f"ended by signal {signal.SIGRTMIN + 1}"
    assert ended(0) == "exited with code 0"


def test_a_program_that_is_not_there_is_a_missing_file() -> None:
    missing = could_not_start("prog", FileNotFoundError(errno.ENOENT, "No such file"))
    assert (missing.cause, missing.how) == ("file_missing", "prog cannot be started: No such file")
    assert could_not_start("a/b", NotADirectoryError(errno.ENOTDIR, "x")).cause == "file_missing"


def test_a_program_that_may_not_run_is_no_missing_file() -> None:
    forbidden = could_not_start("prog", PermissionError(errno.EACCES, "Permission denied"))
    assert forbidden.cause == "crashed"
    assert could_not_start("prog", OSError("odd")).how == "prog cannot be started: odd"
