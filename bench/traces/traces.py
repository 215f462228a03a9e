"""The traces by name. Models are called A, B and C; answers take 0.3 s where nothing is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.workload import (
    Arrival,
    Workload,
    about,
    agents,
    alternation,
    always,
    bursts,
    busy,
    evenly,
    poisson,
    sessions,
)

MODELS = "ABC"
ANSWER = 0.3  # seconds


@dataclass(frozen=True, slots=True)
class Setting:
    """What is asked for on the command line."""

    seconds: float
    rate: float  # requests per second, of all the models together
    seed: int


def _poisson(of: Setting) -> Workload:
    return poisson(evenly(MODELS, of.rate), always(ANSWER), of.seconds, of.seed)


def _alternation(of: Setting) -> Workload:
    return alternation("AB", ANSWER, of.seconds, pause=0.0)


def _agents(of: Setting) -> Workload:
    """Two agents, each with a model of its own."""
    return agents("AB", 0.5, of.seconds, 0.1, of.seed)


def _busy(of: Setting) -> Workload:
    """Four clients keep A busy; one request for B comes a second after A was loaded at the
    latest."""
    wanted = Workload(of.seconds, (Arrival(5.0, "B", ANSWER),))
    return busy("A", 4, ANSWER, of.seconds, of.seed) + wanted


def _alone(of: Setting) -> Workload:
    """The same four clients, and nobody else: what they get done then."""
    return busy("A", 4, ANSWER, of.seconds, of.seed)


def _bursts(of: Setting) -> Workload:
    return bursts(MODELS, about(1.0), of.seconds, gap=4.0, size=6, seed=of.seed)


def _sessions(of: Setting) -> Workload:
    return sessions(MODELS, about(1.0), of.seconds, gap=10.0, turns=5, seed=of.seed)


def _skew(of: Setting) -> Workload:
    """80, 15 and 5 of 100."""
    rates = {"A": 0.8 * of.rate, "B": 0.15 * of.rate, "C": 0.05 * of.rate}
    return poisson(rates, always(ANSWER), of.seconds, of.seed)


TRACES: dict[str, Callable[[Setting], Workload]] = {
    "poisson": _poisson,
    "alternation": _alternation,
    "agents": _agents,
    "busy": _busy,
    "alone": _alone,
    "bursts": _bursts,
    "sessions": _sessions,
    "skew": _skew,
}
