"""What is tried with the image, in order, and what has to be seen."""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import re
import subprocess
import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from deploy.try_image.say import Failed, check, say, timed
from deploy.try_image.service import HEALTHY_IN, Service, Yard, secret

CLONE_NEWNET = 0x40000000
ROUTER, SIDECAR = 8080, 8090
CLIENTS = ("client", "admin")


def look_at_the_image(root: Path, context: Path) -> None:
    for part in ("", "usr", "opt/venv", "var"):
        say(f"{megabytes(root / part):6.1f} MB  /{part}")
    base = megabytes(root / "usr/share/doc") + megabytes(root / "usr/share/locale")
    say(f"{base:6.1f} MB of that are documents and translations, which a -slim base leaves out")
    project = tomllib.loads((context / "pyproject.toml").read_text())["project"]
    there = {path.name.split("-")[0].lower() for path in root.glob("opt/venv/lib/*/*/*.dist-info")}
    development = {
        name.lower().replace("-", "_") for name in project["optional-dependencies"]["dev"]
    }
    say(f"{len(there)} Python packages: {' '.join(sorted(there))}")
    check("none of them is for development", not there & (development | {"pip", "setuptools"}))
    lent = [path for path in ("etc/pip.conf", "run/lent") if (root / path).exists()]
    check("nothing of what this machine lent is left in it", not lent)


def run(yard: Yard) -> None:
    leave_the_network()
    with ExitStack() as stack:
        make_the_models(start(yard, "models", stack))
        sidecar = start(yard, "sidecar", stack)
        say(f"sidecar is well after {sidecar.until_healthy():.1f} s")
        router = start(yard, "router", stack)
        say(f"router is well after {router.until_healthy():.1f} s")
        for service in (sidecar, router):
            look_at_the_process(service, yard)
        keys, tried = see_the_keys(sidecar, router)
        key = keys["client"]
        ask(key, tried)
        load_by_hand(keys)
        look_with_the_command(router, key)
        told = router.execute("sha256sum", "/state/keys/sidecar").stdout.split()[0]
        stop(router, sidecar)
        start_again(yard, key, stack)
        start_a_second_box(yard, told, stack)


def leave_the_network() -> None:
    """A network of our own, with nothing but its loopback, for everything from here on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise Failed(f"no network of its own: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    say("from here on in a network of its own, with nothing but a loopback")


def start(yard: Yard, name: str, stack: ExitStack) -> Service:
    service = yard.service(name)
    return started(service, stack)


def started(service: Service, stack: ExitStack) -> Service:
    how = "its root read-only, " if service.cell.read_only else ""
    say(f"{service.name}: {' '.join(service.cell.argv)} ({how}user {service.cell.user})")
    stack.callback(service.kill)
    service.start()
    return service


def make_the_models(models: Service) -> None:
    with timed("waiting for it to complete"):
        code = models.wait(300)
    for line in models.log().splitlines():
        say(f"  | {line}")
    check("models completed successfully", code == 0)


def look_at_the_process(service: Service, yard: Yard) -> None:
    program = service.program()
    check(f"{service.name} is {' '.join(program.cmdline()[:4])}, child of init", service.cell.init)
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{program.pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    bare = {status[name].strip("0") for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")}
    check(f"{service.name} has no capabilities", bare == {""})
    check(f"{service.name} can get no new privileges", status["NoNewPrivs"] == "1")
    check(f"{service.name} is not root", program.uids().real == int(yard.config.user.split(":")[0]))
    for path in ("/x", "/opt/venv/x", "/etc/swapyard/x", "/demo/x"):
        refused = service.execute("touch", path).returncode != 0
        check(f"{service.name} cannot write {path}", refused)
    can = service.execute("touch", "/tmp/x").returncode == 0
    check(f"{service.name} can write /tmp", can)
    *asking, _, _ = yard.config.health
    well = service.execute(*yard.config.health).returncode == 0
    check(f"the HEALTHCHECK of the image says well: {service.name}", well)
    well = service.execute(*asking, "http://127.0.0.1:9/healthz").returncode == 0
    check("where nobody listens it does not", not well)


def see_the_keys(sidecar: Service, router: Service) -> tuple[dict[str, str], str]:
    """Those of clients, and what is said to be tried with theirs."""
    log = sidecar.log()
    for line in log.splitlines():
        if not line.startswith("{"):
            say(f"  | {line}")
    keys = {name: found for name in CLIENTS if (found := secret(log, name))}
    check("the sidecar, which starts first, showed the keys of clients", len(keys) == len(CLIENTS))
    check("the router showed none", not any(secret(router.log(), name) for name in CLIENTS))
    environ = {name: set(keys_of(service)) for name, service in (("r", router), ("s", sidecar))}
    hashes = {"CLIENT_KEY_SHA256", "ADMIN_KEY_SHA256"}
    ours = {"r": {"SIDECAR_KEY", *hashes}, "s": {"SIDECAR_KEY_SHA256", *hashes}}
    check("each program knows what it needs, and the router alone a key", environ == ours)
    (tried,) = re.findall(r"^Try \(.*?\): (.*)$", log, re.MULTILINE)
    return keys, tried


def keys_of(service: Service) -> Iterator[str]:
    return (name for name in service.program().environ() if "KEY" in name)


# As a client.


def ask(key: str, tried: str) -> None:
    """`tried`: the command that the router's log says to try."""
    with timed("the command that was shown, word for word: demo-small, cold, as a stream"):
        done = subprocess.run(["sh", "-c", tried], capture_output=True, text=True)
    tell(done.stdout)
    check("without a key: 401", post(None, "demo-small")[0] == 401)
    check("with a wrong key: 401", post("x" * 43, "demo-small")[0] == 401)
    check("the list of models needs a key, too", get("/v1/models", None)[0] == 401)
    models = [item["id"] for item in json.loads(get("/v1/models", key)[1])["data"]]
    say(f"with the key: {', '.join(models)}")
    with timed("asking demo-big, for which demo-small has to leave"):
        status, text = post(key, "demo-big")
    check("demo-big answers 200", status == 200, text)
    tell(text)


def load_by_hand(keys: dict[str, str]) -> None:
    """At the sidecar's own port, demo-medium, which nobody asked for."""
    load = "/models/demo-medium/load"
    check("the sidecar asks for a key", get("/models/status", None, SIDECAR)[0] == 401)
    for path in ("/models/status", "/metrics"):
        check(f"the client's reads {path} there", get(path, keys["client"], SIDECAR)[0] == 200)
    refused = request("POST", load, keys["client"], None, SIDECAR)
    check("it may not load there: 403", refused[0] == 403, refused[1])
    began = request("POST", load, keys["admin"], None, SIDECAR)
    check("the admin's may: 202", began[0] == 202, began[1])
    deadline = time.monotonic() + HEALTHY_IN
    while phase("demo-medium", keys["admin"]) != "ready" and time.monotonic() < deadline:
        time.sleep(0.1)
    check("demo-medium is ready", phase("demo-medium", keys["admin"]) == "ready")


def look_with_the_command(router: Service, key: str) -> None:
    probed = f"probe --url http://127.0.0.1:{SIDECAR}"
    # The router misses the box of the profile that does not run here.
    for command, code in {"status": 0, "probe": 0, probed: 0}.items():
        done = router.execute("swapyard", *command.split(), SWAPYARD_KEY=key)
        for line in done.stdout.splitlines():
            say(f"  | {line}")
        check(f"swapyard {command} ends with {code}", done.returncode == code, done.stderr)


def phase(model: str, key: str) -> str:
    models = json.loads(get("/models/status", key, SIDECAR)[1])["models"]
    return str(next(item["phase"] for item in models if item["id"] == model))


def tell(text: str) -> None:
    said, phases = "", []
    for line in text.splitlines():
        if line.startswith("data: {"):
            data = json.loads(line.removeprefix("data: "))
            if told := data.get("model_switching"):
                phases.append(
                    f"{told['phase']} ({told['step']})" if told["step"] else told["phase"]
                )
            said += "".join(choice["delta"].get("content") or "" for choice in data["choices"])
    say(f"  told: {', '.join(dict.fromkeys(phases))}")
    say(f"  said: {said.strip()}")
    check(
        "it was told of the load, then answered, to the end", phases and said and "[DONE]" in text
    )


def post(key: str | None, model: str) -> tuple[int, str]:
    messages = [{"role": "user", "content": "Hi"}]
    body = {"model": model, "stream": True, "messages": messages}
    return request("POST", "/v1/chat/completions", key, body, ROUTER)


def get(path: str, key: str | None, port: int = ROUTER) -> tuple[int, str]:
    return request("GET", path, key, None, port)


def request(method: str, path: str, key: str | None, body: Any, port: int) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


# The end, and a second start.


def stop(*services: Service) -> None:
    """In compose's order: who depends on others goes first."""
    for service in services:
        there = psutil.Process(service.first().pid)
        family = [there, *there.children(recursive=True)]
        engines = [each.pid for each in family if "embedded_server" in " ".join(each.cmdline())]
        took = service.stop()
        code = service.wait(1)
        check(f"{service.name} ended {took:.1f} s after SIGTERM, with 0", code == 0, service.log())
        left = [each for each in family if each.is_running()]
        check(f"nothing is left of its {len(family)} processes ({len(engines)} engines)", not left)


def start_again(yard: Yard, key: str, stack: ExitStack) -> None:
    say("once more, now with the pids of the host: nobody but the sidecar ends its engines")
    sidecar = started(yard.service("sidecar").with_the_pids_of_the_host(), stack)
    sidecar.until_healthy()
    router = started(yard.service("router").with_the_pids_of_the_host(), stack)
    router.until_healthy()
    logs = sidecar.log() + router.log()
    check("the second start shows no key", not any(secret(logs, name) for name in CLIENTS))
    check("nor anything like it", key not in logs and "Bearer" not in logs)
    status, text = post(key, "demo-small")
    check("the key of the first start still opens", status == 200, text)
    tell(text)
    stop(router, sidecar)


def start_a_second_box(yard: Yard, told: str, stack: ExitStack) -> None:
    there = replace(yard, folder=yard.folder / "there", environ={"SIDECAR_KEY_SHA256": told})
    there.folder.mkdir()
    say("on a second machine: nothing but what it was told")
    untold = started(replace(there, environ={}).service("second-box"), stack)
    check("second-box does not start without the hash", untold.wait(30) == 2)
    say(f"  | {untold.log().strip()}")
    make_the_models(started(there.service("models"), stack))
    box = started(there.service("second-box"), stack)
    say(f"second-box is well after {box.until_healthy():.1f} s")
    made = list((there.folder / "volumes/state").glob("keys"))
    check("it made no keys", not made)
    key = (yard.folder / "volumes/state/keys/sidecar").read_text()
    status = "/models/status"
    check("it asks for a key", get(status, None, SIDECAR)[0] == 401)
    check("and knows the one of the first machine's router", get(status, key, SIDECAR)[0] == 200)
    stop(box)


def megabytes(folder: Path) -> float:
    said = subprocess.run(["du", "-sxk", str(folder)], capture_output=True, text=True, check=True)
    return int(said.stdout.split()[0]) * 1024 / 1e6
