"""The `swapyard` command: what a person asks a running router."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import httpx


def main() -> None:
    parser = argparse.ArgumentParser(prog="swapyard")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="of the router")
    commands = parser.add_subparsers(dest="command", required=True)
    status = commands.add_parser("status", help="boxes, models, and who waits")
    status.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        fleet = httpx.get(f"{arguments.url}/api/fleet", trust_env=False).raise_for_status().json()
    except httpx.HTTPError as error:
        sys.exit(f"The router at {arguments.url} does not answer: {error}")
    print(json.dumps(fleet) if arguments.json else table(fleet))


def table(fleet: dict[str, Any]) -> str:
    """One line per model of each box, then one per model that is waited for."""
    head = f"{'BOX':12} {'MODEL':28} {'PHASE':10} {'IN FLIGHT':>9} {'WAITING':>8}  STEP"
    boxes = [line for box in fleet["boxes"] for line in of_box(box)]
    return "\n".join([head, *boxes, *(of_line(waiting) for waiting in fleet["line"])])


def of_box(box: dict[str, Any]) -> list[str]:
    if not box["live"]:
        return [f"{box['box']:12} cannot be reached"]
    return [
        f"{box['box']:12} {model['id']:28} {model['phase']:10} "
        f"{model['in_flight']:>9} {model['waiting']:>8}  {model['step'] or ''}"
        for model in box["models"]
    ]


def of_line(waiting: dict[str, Any]) -> str:
    return f"{waiting['waiting']} wait for {waiting['model']}, oldest {waiting['oldest_s']:.1f} s"
