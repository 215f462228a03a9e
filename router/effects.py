"""What the line answers to a fact: what is to be done for one request, or told to many."""

from __future__ import annotations

from dataclasses import dataclass

from router.queue import Ticket
from shared.errors import SwapyardError


@dataclass(frozen=True, slots=True)
class Send:
    """It is this request's turn, on this box. `reason`: why there."""

    ticket: Ticket
    box: str
    reason: str


@dataclass(frozen=True, slots=True)
class Fail:
    """Nobody will serve this request."""

    ticket: Ticket
    error: SwapyardError


@dataclass(frozen=True, slots=True)
class News:
    """Those who wait for this model have something new to be told at once."""

    model: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The box that serves this request is silent: what was sent there may never be answered."""

    ticket: Ticket


Effect = Send | Fail | News | Lost
