from __future__ import annotations

import errno
import signal

import pytest

from sidecar.diagnosis import LINES_TOLD, could_not_start, diagnose, ended, nowhere_to_write
from sidecar.failure import Cause


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("CUDA error: out of memory", "vram_oom"),
        ("ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed", "vram_oom"),
        ("failed to allocate buffer of size 1024", "vram_oom"),
        ("ggml_aligned_malloc: insufficient memory (attempted to allocate 1 MB)", "vram_oom"),
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


# As llama-server b10359 prints them, less some lines in between.
NO_GGUF = """\
cmd_child_to_router:state:{"state":"loading","payload":{"current":"text_model","value":0.0}}
0.00.003.766 I srv    load_model: loading model 'rnd.gguf'
0.00.003.805 E gguf_init_from_reader: invalid magic characters: '??W?', expected 'GGUF'
0.00.003.892 E srv    load_model: failed to load model, 'rnd.gguf'
0.00.003.893 I srv    operator(): operator(): cleaning up before exit...
"""
TOO_LARGE = """\
0.00.095.057 E ggml_aligned_malloc: insufficient memory (attempted to allocate 976.56 MB)
0.00.095.114 E ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 1024
0.00.101.682 E srv    load_model: failed to create_context with model 'tiny.gguf'
0.00.102.338 E srv  llama_server: exiting due to model loading error
"""
GONE = """\
0.00.003.832 E gguf_init_from_file: failed to open GGUF file 'x.gguf' (No such file or directory)
0.00.003.901 E srv    load_model: failed to load model, 'x.gguf'
"""
PORT_TAKEN = """\
0.00.002.238 E srv         start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 2
0.00.002.259 I srv    operator(): operator(): cleaning up before exit...
0.00.002.343 E srv  llama_server: exiting due to HTTP server error
"""
BAD_VALUE = """\
error while handling argument "--threads": stoi

usage:
-t,    --threads N                      number of CPU threads to use (default: -1)

to show complete usage, run with -h
"""


@pytest.mark.parametrize(
    ("said", "cause", "words"),
    [
        (NO_GGUF, "crashed", "gguf_init_from_reader: invalid magic characters"),
        (TOO_LARGE, "vram_oom", "ggml_aligned_malloc: insufficient memory"),
        (GONE, "file_missing", "gguf_init_from_file: failed to open GGUF file 'x.gguf'"),
        (PORT_TAKEN, "port_in_use", "srv         start: couldn't bind"),
        (BAD_VALUE, "bad_flag", 'error while handling argument "--threads": stoi'),
        ("error: invalid argument: --frob", "bad_flag", "error: invalid argument: --frob"),
    ],
)
def test_of_what_llama_cpp_says_the_first_error_is_told(
    said: str, cause: Cause, words: str
) -> None:
    exit = diagnose(1, said.splitlines())
    assert exit.cause == cause
    assert exit.last_words.startswith(words)


def test_where_llama_cpp_ended_before_it_said_why_nothing_is_told() -> None:
    chatter = [line for line in NO_GGUF.splitlines() if " E " not in line]
    assert len(chatter) == 3
    assert diagnose(1, chatter).last_words == ""


def test_a_bad_flag_is_known_though_its_long_explanation_pushes_the_error_out() -> None:
    said = [BAD_VALUE.splitlines()[0], *["allowed: x"] * LINES_TOLD, BAD_VALUE.splitlines()[-1]]
    assert diagnose(1, said).cause == "bad_flag"


def test_an_engine_out_of_memory_may_complain_of_a_file_afterwards() -> None:
    assert diagnose(1, ["out of memory", "failed to open model"]).cause == "vram_oom"


def test_an_end_without_words_is_a_crash() -> None:
    exit = diagnose(-signal.SIGSEGV, [])
    assert (exit.cause, exit.how, exit.last_words) == ("crashed", "ended by SIGSEGV", "")


def test_an_end_that_nobody_saw_is_told_as_such() -> None:
    exit = diagnose(None, ["out of memory"])
    assert (exit.cause, exit.how) == ("vram_oom", "ended, and nobody was there to see how")


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


def test_a_log_that_cannot_be_written_is_not_blamed_on_the_program() -> None:
    error = OSError(28, "No space left on device", "/state/logs/a.log")
    exit = nowhere_to_write(error)
    said = "its log cannot be written: No space left on device: /state/logs/a.log"
    assert (exit.cause, exit.how) == ("crashed", said)
