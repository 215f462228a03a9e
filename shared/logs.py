"""structlog, once. JSON where nobody watches, readable lines on a terminal.

Prompts, answers and keys are never given to a logger.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog
from pydantic_core import to_json


def configure(stream: TextIO = sys.stderr) -> None:
    watched = stream.isatty()
    factory: Any = (
        structlog.WriteLoggerFactory(stream)
        if watched
        else structlog.BytesLoggerFactory(stream.buffer)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if watched else _as_json,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=factory,
        cache_logger_on_first_use=True,  # there is a line for each request
    )


def _as_json(logger: object, method: str, event: MutableMapping[str, Any]) -> bytes:
    return to_json(event, fallback=repr)
