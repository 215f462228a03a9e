"""A container's first command: keys are made once and shown once, and then it is the program."""

import fcntl
import hashlib
import os
import re
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import psutil

from tests.harness import ROOT, Program, client, free_port, until

START = ROOT / "deploy" / "image" / "start.py"
SHOWN = re.compile(r"^New key '(\w+)' .*\n([\w-]{43})$", re.MULTILINE)
MODELS = "models: {one: {engine: command, command: [sleep, '9']}}"
# What each was told, in the words of a problem: it ends at once and leaves nothing to stop.
TELLING = {
    "sidecar": 'shutdown_timeout: "${SIDECAR_KEY_SHA256}"\n' + MODELS,
    "router": 'sidecars: [{url: "http://127.0.0.1:1"}]\nbox_grace: "${SIDECAR_KEY}"',
}


def start(tmp: Path, program: str, config: str, **env: str) -> Program:
    file = tmp / f"{program}.yaml"
    file.write_text(config)
    argv = [sys.executable, str(START), program, "--config", str(file)]
    return Program(argv, tmp, env={"SWAPYARD_STATE": str(tmp / "state"), **env})


def shown(program: Program) -> dict[str, str]:
    return dict(SHOWN.findall(program.log()))


def kept(tmp: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in (tmp / "state" / "keys").iterdir()}


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def in_a_problem(value: str) -> str:
    """Of a long value the first 60 characters are told."""
    return value[:60]


async def told(tmp: Path, program: str, **env: str) -> tuple[Program, str]:
    """The one that ran, and the value that its config named."""
    async with start(tmp, program, TELLING[program], **env) as it:
        assert await it.wait() == 2
        return it, told_by(it)


def told_by(program: Program) -> str:
    (value,) = re.findall(r"\(got '([\w-]+)'\)", program.log())
    return str(value)


async def test_the_keys_are_made_and_shown_once(tmp_path: Path) -> None:
    first, sidecar_key = await told(tmp_path, "router")
    keys, files = shown(first), kept(tmp_path)
    assert set(keys) == {"client", "admin"}
    assert f"Authorization: Bearer {keys['client']}" in first.log()
    assert files == {
        "client.sha256": digest(keys["client"]),
        "admin.sha256": digest(keys["admin"]),
        "sidecar": sidecar_key,
    }
    second, same_key = await told(tmp_path, "router")
    assert (shown(second), "Bearer" in second.log()) == ({}, False)
    assert (kept(tmp_path), same_key) == (files, sidecar_key)


async def test_only_their_owner_reads_the_keys(tmp_path: Path) -> None:
    await told(tmp_path, "router")
    folder = tmp_path / "state" / "keys"
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in [folder, *folder.iterdir()]}
    files = dict.fromkeys(("client.sha256", "admin.sha256", "sidecar"), "0o600")
    assert modes == {"keys": "0o700", **files}


async def test_whoever_starts_first_shows_the_keys_of_clients_and_the_other_none(
    tmp_path: Path,
) -> None:
    first, told_hash = await told(tmp_path, "sidecar")
    files = kept(tmp_path)
    assert {name: digest(key) for name, key in shown(first).items()} == {
        "client": files["client.sha256"],
        "admin": files["admin.sha256"],
    }
    assert files["sidecar"] not in first.log()
    assert told_hash == in_a_problem(digest(files["sidecar"]))
    second, key = await told(tmp_path, "router")
    assert (shown(second), key, kept(tmp_path)) == ({}, files["sidecar"], files)


async def test_who_starts_at_the_same_moment_shares_one_set_of_keys(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "keys"
    folder.mkdir(parents=True)
    held = os.open(folder, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    async with AsyncExitStack() as stack:
        them = {
            program: [
                await stack.enter_async_context(start(tmp_path, program, TELLING[program]))
                for _ in range(3)
            ]
            for program in ("router", "sidecar")
        }
        pids = {it.pid for each in them.values() for it in each}
        await until(lambda: who_waits_for_a_lock() >= pids)
        os.close(held)
        everyone = (*them["router"], *them["sidecar"])
        for it in everyone:
            assert await it.wait() == 2
    assert [name for it in everyone for name in shown(it)] == ["client", "admin"]
    key = kept(tmp_path)["sidecar"]
    assert {told_by(it) for it in them["router"]} == {key}
    assert {told_by(it) for it in them["sidecar"]} == {in_a_problem(digest(key))}


def who_waits_for_a_lock() -> set[int]:
    lines = Path("/proc/locks").read_text().splitlines()
    return {int(line.split()[5]) for line in lines if "-> FLOCK" in line}


async def test_a_key_whose_file_is_removed_is_made_anew_and_no_other(tmp_path: Path) -> None:
    first, _ = await told(tmp_path, "router")
    before = kept(tmp_path)
    (tmp_path / "state" / "keys" / "client.sha256").unlink()
    second, _ = await told(tmp_path, "router")
    assert set(shown(second)) == {"client"}
    assert shown(second)["client"] != shown(first)["client"]
    changed = {name for name, text in kept(tmp_path).items() if text != before[name]}
    assert changed == {"client.sha256"}


async def test_what_the_environment_says_comes_first(tmp_path: Path) -> None:
    _, said = await told(tmp_path, "sidecar", SIDECAR_KEY_SHA256="0f" * 32)
    assert said == in_a_problem("0f" * 32)
    assert set(kept(tmp_path)) == {"client.sha256", "admin.sha256"}
    _, said = await told(tmp_path, "sidecar", SIDECAR_KEY_SHA256="")
    assert said == in_a_problem(digest(kept(tmp_path)["sidecar"]))


async def test_it_becomes_the_program_which_knows_its_keys_and_hears_signals(
    tmp_path: Path,
) -> None:
    port = free_port()
    config = f"listen: 127.0.0.1:{port}\nstate_dir: {tmp_path}/box\n{MODELS}"
    async with start(tmp_path, "sidecar", config) as it, client(f"http://127.0.0.1:{port}") as http:
        await until_it_answers(http)
        program = psutil.Process(it.pid)
        assert program.cmdline()[1:4] == ["-P", "-m", "sidecar"]
        named = {name: text for name, text in program.environ().items() if "KEY" in name}
        assert named == {
            "SIDECAR_KEY_SHA256": digest(kept(tmp_path)["sidecar"]),
            "CLIENT_KEY_SHA256": kept(tmp_path)["client.sha256"],
            "ADMIN_KEY_SHA256": kept(tmp_path)["admin.sha256"],
        }
        it.terminate()
        assert await it.wait() == 0


async def until_it_answers(http: httpx.AsyncClient) -> None:
    async def answered() -> bool:
        try:
            return (await http.get("/healthz")).status_code == 200
        except httpx.TransportError:
            return False

    await until(answered)


async def test_a_program_that_is_none_is_refused(tmp_path: Path) -> None:
    async with Program([sys.executable, str(START), "rooter"], tmp_path) as it:
        assert await it.wait() == 1
        assert "usage: start.py router|sidecar" in it.log()


async def test_a_state_folder_that_cannot_be_written_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    async with start(tmp_path, "router", TELLING["router"]) as it:
        assert await it.wait() == 1
        assert "Traceback" not in it.log()
        assert it.log().startswith("swapyard: the keys cannot be read or made")
