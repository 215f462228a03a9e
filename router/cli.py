"""The `swapyard` command: what a person, or a program that watches, asks a running router.

The key comes from the environment: `ps` shows the arguments of a command to everyone.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

import httpx

from router import probe

DEFAULT_URL = "http://127.0.0.1:8080"
KEY_VARIABLE = "SWAPYARD_KEY"
ANSWER = 10.0  # seconds, as Nagios's own plugins wait


def main() -> None:
    arguments = read_arguments()
    if arguments.command == "probe":
        verdict = look(arguments)
        print(verdict.line())
        sys.exit(verdict.state)
    try:
        fleet = fetch(arguments.url, arguments.key)
        print(json.dumps(fleet) if arguments.json else table(fleet), flush=True)
    except BrokenPipeError:  # `swapyard status | head`
        sys.stderr.close()


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """To what runs `probe`, argparse's 2 would mean that all is lost."""
        if sys.argv[1:2] == ["probe"]:
            print(probe.Verdict(probe.State.UNKNOWN, message).line())
            sys.exit(probe.State.UNKNOWN)
        super().error(message)


def read_arguments() -> argparse.Namespace:
    parser = Parser(prog="swapyard")
    commands = parser.add_subparsers(dest="command", required=True)
    status = commands.add_parser("status", help="boxes, models, and who waits")
    status.add_argument("--url", default=DEFAULT_URL, help=f"of the router ({DEFAULT_URL})")
    status.add_argument("--json", action="store_true", help="as the router says it")
    add_probe(commands.add_parser("probe", help="is all well? One line, as Nagios wants it"))
    arguments = parser.parse_args()
    if arguments.command == "probe" and not 0 < arguments.warning <= arguments.critical:
        parser.error("the limits must be above 0, and -w not above -c")
    arguments.key = os.environ.get(KEY_VARIABLE, "").strip()
    if not re.fullmatch("[!-~]*", arguments.key):  # httpx would print it
        parser.error(f"{KEY_VARIABLE} holds something that is no key: spaces, or more than ASCII")
    return arguments


def add_probe(parser: argparse.ArgumentParser) -> None:
    add, limits = parser.add_argument, probe.Limits()
    add("--url", default=DEFAULT_URL, help=f"of the router, or of a sidecar ({DEFAULT_URL})")
    add("--model", action="append", default=[], help="it must be there; may be given again")
    help = "for who waits longer than this, or a switch that takes longer: seconds (%(default)g)"
    add("-w", "--warning", type=float, default=limits.warning, help=help)
    add("-c", "--critical", type=float, default=limits.critical, help=help)


def look(arguments: argparse.Namespace) -> probe.Verdict:
    """Ask whoever is there: a router, else a sidecar."""
    url, limits = arguments.url.rstrip("/"), probe.Limits(arguments.warning, arguments.critical)
    codes = []
    try:
        with client(arguments.key) as http:
            health = http.get(f"{url}/healthz")
            if health.status_code == 503:
                return probe.unwell(url, health.text)
            for path, read in probe.READERS.items():
                answer = http.get(f"{url}{path}")
                if answer.is_success:
                    return probe.judge(read(answer.content), limits, arguments.model)
                codes.append(answer.status_code)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        return probe.Verdict(probe.State.UNKNOWN, f"{url}: {error}")
    except httpx.HTTPError as error:
        return probe.unreachable(url, str(error) or type(error).__name__)
    except ValueError:
        return probe.no_answer_of_ours(url)
    return probe.refused(url, codes)


def client(key: str) -> httpx.Client:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(headers=headers, timeout=ANSWER, trust_env=False)


def fetch(url: str, key: str) -> dict[str, Any]:
    try:
        with client(key) as http:
            answer = http.get(f"{url.rstrip('/')}/api/fleet")
        if answer.is_success:
            return dict(answer.json())
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        sys.exit(f"The router at {url} does not answer: {error}")
    sys.exit(why_not(url, answer.status_code, bool(key)))


def why_not(url: str, status: int, has_key: bool) -> str:
    match status:
        case 401 if has_key:
            return f"The router at {url} does not know the key in {KEY_VARIABLE}."
        case 401:
            return (
                f"The router at {url} wants a key: put one with the scope `read` into the"
                f" environment variable {KEY_VARIABLE}."
            )
        case 403:
            return f"The key in {KEY_VARIABLE} may not see this: use one with the scope `read`."
    return f"There is no router at {url}: it answers {status} to /api/fleet."


def table(fleet: dict[str, Any]) -> str:
    """One line per model of each box, what is wrong there, and who is waited for."""
    head = f"{'BOX':12} {'MODEL':28} {'PHASE':10} {'IN FLIGHT':>9} {'WAITING':>8}  STEP"
    boxes = [line for box in fleet["boxes"] for line in of_box(box)]
    line = [of_line(waiting, fleet["boxes"]) for waiting in fleet["line"]]
    return "\n".join([head, *boxes, *line])


def of_box(box: dict[str, Any]) -> list[str]:
    if not box["live"]:
        why = "off (optional)" if box["optional"] else f"cannot be reached: {box['trouble']}"
        return [f"{box['box']:12} {why}"]
    models = [
        f"{box['box']:12} {model['id']:28} {phase_of(model):10} "
        f"{model['in_flight']:>9} {model['waiting']:>8}  {step_of(model)}"
        for model in box["models"]
    ]
    return [*models, *(f"{box['box']:12} problem: {problem}" for problem in box["problems"])]


def phase_of(model: dict[str, Any]) -> str:
    failed = model["phase"] == "idle" and model["error"] is not None
    return "failed" if failed else str(model["phase"])


def step_of(model: dict[str, Any]) -> str:
    error, step = model["error"], model["step"]
    if step is None:
        return str(error["message"]) if error else ""
    progress, left = model["progress"], model["eta_s"]
    done = "" if progress is None else f", {progress:.0%}"
    return f"{step}{done}" + ("" if left is None else f", about {math.ceil(left)} s left")


def of_line(waiting: dict[str, Any], boxes: Iterable[dict[str, Any]]) -> str:
    """Who waits, and the reason that a box's plan gives."""
    count, model = waiting["waiting"], waiting["model"]
    plans = [entry for box in boxes if box["live"] for entry in box["plan"]]
    why = next((f"\n  {entry['because']}" for entry in plans if entry["model"] == model), "")
    who = "1 waits" if count == 1 else f"{count} wait"
    return f"{who} for {model}, oldest {waiting['oldest_s']:.1f} s{why}"
