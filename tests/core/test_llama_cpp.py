from __future__ import annotations

from pathlib import Path, PurePosixPath

from shared.settings import read
from sidecar.config import SidecarConfig
from sidecar.engines.launch import Given, Launch
from sidecar.engines.llama_cpp import launch

KEY = "0123abcd"


def launched(text: str = "", **env: str) -> Launch:
    yaml = f"models: {{org/big: {{engine: llama.cpp, path: ./w.gguf, {text}}}}}"
    config = read(SidecarConfig, yaml, name="s.yaml", folder=PurePosixPath("/etc/y"), env={})
    return launch(config.models["org/big"], Given(32768, 4711, KEY, env))


def value(engine: Launch, option: str) -> str:
    """What the program takes: of an option that comes twice, the last."""
    return dict(zip(engine.argv, engine.argv[1:], strict=False))[option]


def test_it_is_the_program_on_the_path_on_loopback_at_the_port_that_was_chosen() -> None:
    big = launched()
    assert big.argv[0] == "llama-server"
    assert (value(big, "--host"), value(big, "--port")) == ("127.0.0.1", "4711")
    assert (big.port, big.file) == (4711, Path("/etc/y/w.gguf"))


def test_it_is_told_its_file_and_its_served_name() -> None:
    assert value(launched(), "--model") == "/etc/y/w.gguf"
    assert value(launched(), "--alias") == "org/big"
    assert value(launched("served_name: big"), "--alias") == "big"


def test_one_request_may_use_the_whole_context_of_all_slots() -> None:
    big = launched("slots: 3")
    assert (value(big, "--ctx-size"), value(big, "--parallel")) == ("32768", "3")
    assert "--kv-unified" in big.argv


def test_what_it_takes_is_what_was_booked() -> None:
    big = launched()
    assert (value(big, "--fit"), value(big, "--cache-ram")) == ("off", "0")
    assert "--device" not in big.argv
    assert value(launched("gpus: none"), "--device") == "none"


def test_its_load_is_told_truly_and_no_page_is_served() -> None:
    assert value(launched(), "--load-mode") == "none"
    assert "--no-ui" in launched().argv


def test_arguments_of_the_config_come_last_and_so_win() -> None:
    big = launched('args: [--threads, "8", --load-mode, mmap]')
    assert big.argv[-4:] == ["--threads", "8", "--load-mode", "mmap"]
    assert value(big, "--load-mode") == "mmap"


def test_the_key_reaches_it_by_its_environment_only() -> None:
    big = launched(LLAMA_API_KEY="another", PLAIN="x")
    assert big.env["LLAMA_API_KEY"] == big.key == KEY
    assert big.env["PLAIN"] == "x"
    assert not any(KEY in argument for argument in big.argv)


def test_it_reports_its_load_and_is_not_polled() -> None:
    big = launched("silence_timeout: 7s")
    assert "LLAMA_SERVER_ROUTER_PORT" in big.env
    assert (big.reports, big.fifo, big.silence) == (True, True, 7.0)


def test_it_ends_by_a_line_once_it_is_ready() -> None:
    assert launched().stop_line == b"cmd_router_to_child:exit\n"


def test_a_failed_assertion_calls_no_debugger() -> None:
    assert launched().env["GGML_NO_BACKTRACE"] == "1"
