"""`engine: llama.cpp`: the `llama-server` on the PATH, on whatever it was built for.

It runs as llama-server's own router would run it: the load is told on stdout (`reports.py`), and
once it is ready, a line on its stdin ends it.
"""

from __future__ import annotations

from sidecar.config import ModelConfig
from sidecar.engines.launch import Given, Launch

PROGRAM = "llama-server"
STOP_LINE = b"cmd_router_to_child:exit\n"


def launch(model: ModelConfig, given: Given) -> Launch:
    return Launch(
        argv=[PROGRAM, *_arguments(model, given), *given.arguments(model, model.args)],
        env={
            **given.environment(model),
            "LLAMA_API_KEY": given.key,
            "LLAMA_SERVER_ROUTER_PORT": "0",  # any value: it reports, and hears the line
            "GGML_NO_BACKTRACE": "1",  # a failed assertion would call a debugger first
        },
        port=given.port,
        key=given.key,
        silence=model.silence_timeout,
        file=model.path,
        fifo=True,
        reports=True,
        stop_line=STOP_LINE,
    )


def _arguments(model: ModelConfig, given: Given) -> list[str]:
    every = {
        "--host": "127.0.0.1",
        "--port": str(given.port),
        "--model": str(model.path),
        "--alias": model.served_name,
        "--ctx-size": str(given.context),
        "--parallel": str(model.slots),
        # Reads in order and counts truly. With mmap progress is 0 until the file is read, then 1.
        "--load-mode": "none",
        # What fits is the ledger's to say. Where the memory of an engine that has just left is not
        # back yet, fitting would put layers on the processor: slow for ever, and nobody is told.
        "--fit": "off",
        "--cache-ram": "0",  # prompts kept beside the context (8 GiB of them): nobody reserved it
    }
    if model.gpus == "none":
        every["--device"] = "none"  # hides also what CUDA_VISIBLE_DEVICES does not: Vulkan's
    flags = ["--kv-unified", "--no-ui"]  # unified: else a slot has its share of the context only
    return [word for pair in every.items() for word in pair] + flags
