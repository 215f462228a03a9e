"""python -m tests.faults.storm --minutes 30 --seed 7 --faults 1000: figures as JSON on stdout, how
far it is on stderr, and exit status 1 where a promise was broken."""

import argparse
import asyncio
import json
import random
import sys

from tests.faults.storm.run import Plan, run, seconds_of_faults

GAP = 1.62  # seconds from one fault to the next, on the mean: 1,000 in 30 minutes and their ends


def read_plan(argv: list[str]) -> Plan:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.storm", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--faults", type=int, default=0, help="0: one each 1.62 s")
    given = parser.parse_args(argv)
    faults = given.faults or max(1, round(seconds_of_faults(given.minutes) / GAP))
    return Plan(given.minutes, given.seed, faults)


if __name__ == "__main__":
    figures = asyncio.run(run(read_plan(sys.argv[1:])))
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    sys.exit(1 if figures["breaches"] else 0)
