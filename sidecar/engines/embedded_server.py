"""The engine `embedded`: llama.cpp's own server, from the wheel xllamacpp, as a process of its own.

Rule: it listens on loopback only, reports its load on stdout, and ends at once on SIGTERM, also
in the middle of a load. stdin has to stay open: llama.cpp ends the process when it sees its end.
"""

import argparse
import os
import signal
import socket
import sys
from typing import Any, NoReturn

HOST = "127.0.0.1"
KEY_VARIABLE = "SWAPYARD_ENGINE_KEY"
REPORT_VARIABLE = "LLAMA_SERVER_ROUTER_PORT"  # set: states and load progress go to stdout


def main() -> NoReturn:
    options = read_options()
    end_on_signals()
    refuse_unreadable(options.model)
    refuse_taken(options.port)
    server = serve(options)  # noqa: F841 - it serves for as long as it is referred to
    while True:
        signal.pause()


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="embedded_server", description=__doc__)
    add = parser.add_argument
    add("--model", required=True, metavar="FILE", help="GGUF")
    add("--port", type=int, required=True)
    add("--context", type=int, required=True, help="tokens that one request may use")
    add("--slots", type=int, required=True, help="requests at a time")
    add("--alias", required=True, metavar="NAME", help="the model's name in answers")
    add("--threads", type=int, help="default: physical cores")
    return parser.parse_args()


def end_on_signals() -> None:
    """Python's handlers wait for the main thread, which is in llama.cpp for the whole load; the
    kernel does not wait. There is nothing to save."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def refuse_unreadable(model: str) -> None:
    try:
        with open(model, "rb"):
            return
    except OSError as problem:
        give_up(f"cannot read {model}: {problem.strerror}")


def refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as llama.cpp's own socket
        try:
            probe.bind((HOST, port))
        except OSError as problem:
            give_up(f"cannot listen on {HOST}:{port}: {problem.strerror}")


def serve(options: argparse.Namespace) -> object:
    """Returns when the model is ready; the port listens and answers 503 long before."""
    os.environ[REPORT_VARIABLE] = "0"  # any value will do
    os.environ["GGML_NO_BACKTRACE"] = "1"  # a failed assertion would call a debugger first
    try:
        import xllamacpp  # late, as it reads the environment
    except ImportError as problem:
        give_up(f"cannot import xllamacpp, of swapyard[embedded]: {problem}")
    try:
        return xllamacpp.Server(parameters(xllamacpp, options))
    except RuntimeError:
        give_up(f"llama.cpp cannot load {options.model}: its lines above say why")


def parameters(xllamacpp: Any, options: argparse.Namespace) -> object:
    chosen = xllamacpp.CommonParams()
    chosen.model.path = options.model
    chosen.model_alias = {options.alias}
    chosen.hostnames = [HOST]
    chosen.port = options.port
    chosen.n_ctx = options.context
    chosen.n_parallel = options.slots
    chosen.kv_unified = True  # else each slot gets its share of the context only
    chosen.fit_params = False  # the context is given, there is nothing to be made to fit
    chosen.cache_ram_mib = 0  # prompts kept beside the context (8 GiB of them): nobody reserved it
    # Reads in order and counts truly. With mmap progress is 0 until the file is read and then 1.
    chosen.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_NONE
    if key := os.environ.get(KEY_VARIABLE):
        chosen.api_keys = [key]
    if options.threads:
        chosen.cpuparams.n_threads = options.threads
        chosen.cpuparams_batch.n_threads = options.threads
    return chosen


def give_up(reason: str) -> NoReturn:
    sys.exit(f"embedded_server: {reason}")


if __name__ == "__main__":
    main()
