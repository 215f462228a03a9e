from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import shared.errors
from shared.errors import (
    DoesNotFit,
    EngineFailed,
    EngineStalled,
    Forbidden,
    HeadTooLarge,
    InternalError,
    InvalidRequest,
    LoadFailed,
    ModelNotFound,
    NotAllowed,
    NotFound,
    NotSupported,
    QueueTimeout,
    RequestTimeout,
    SwapyardError,
    TenantLimit,
    TooLarge,
    Unauthorized,
    Unavailable,
    UrlTooLong,
)
from shared.sse import Decoder

SURFACE = [
    (InvalidRequest("m", code="invalid_json"), 400, "invalid_json", False),
    (Unauthorized("m"), 401, "unauthorized", False),
    (Forbidden("laptop", ["read"]), 403, "forbidden", False),
    (ModelNotFound("x", ["a", "b"]), 404, "model_not_found", False),
    (NotFound("/nowhere"), 404, "not_found", False),
    (NotFound("/v1/models", 405), 405, "invalid_request", False),
    (DoesNotFit("needs 9, has 8"), 409, "does_not_fit", False),
    (NotAllowed("m"), 405, "invalid_request", False),
    (RequestTimeout("head"), 408, "request_timeout", True),
    (TooLarge(10), 413, "too_large", False),
    (UrlTooLong(9), 414, "url_too_long", False),
    (HeadTooLarge(9, 9), 431, "head_too_large", False),
    (TenantLimit("m", code="tenant_limit"), 429, "tenant_limit", True),
    (LoadFailed("m", "vram_oom", ["a"], None), 503, "load_failed", False),
    (Unavailable("m", code="queue_full"), 503, "queue_full", True),
    (QueueTimeout("x", 600.4), 504, "queue_timeout", True),
    (EngineFailed("m", code="engine_died"), 502, "engine_died", False),
    (NotSupported("m"), 501, "not_supported", False),
    (InternalError(), 500, "internal_error", False),
    (EngineStalled(300.0), 504, "engine_stalled", False),
]


@pytest.mark.parametrize(("error", "status", "code", "retry"), SURFACE)
def test_every_error_has_the_shape_of_openai_s(
    error: SwapyardError, status: int, code: str, retry: bool
) -> None:
    said = json.loads(error.body())["error"]
    assert error.status == status
    assert (said["code"], said["message"], said["param"]) == (code, str(error), error.param)
    kind = "invalid_request_error" if status < 500 else "server_error"
    assert said["type"] == ("rate_limit_error" if status == 429 else kind)
    assert error.headers()["content-type"] == "application/json"
    assert error.headers()["x-should-retry"] == ("true" if retry else "false")
    assert isinstance(error, SwapyardError)


def test_an_error_in_a_stream_is_one_event_without_a_name() -> None:
    error = LoadFailed("two\nlines \u2028", "crashed", ["last\n", "words"], 10.0)
    (event,) = Decoder().feed(error.event())
    assert event.event == "message"
    assert json.loads(event.data) == json.loads(error.body())


def test_a_failed_load_says_why_and_shows_the_engine_s_last_words() -> None:
    error = LoadFailed("m", "vram_oom", ["out of", "memory"], 12.0)
    said = json.loads(error.body())["error"]
    assert (said["cause"], said["log_tail"]) == ("vram_oom", ["out of", "memory"])
    assert "retry_after" not in said


def test_who_may_not_read_logs_is_told_all_the_rest() -> None:
    error = LoadFailed("m", "vram_oom", ["out of", "memory"], 12.0)
    said = json.loads(error.body())["error"]
    bare = error.without_logs()
    assert said.pop("log_tail")
    assert json.loads(bare.body())["error"] == said
    assert bare.headers() == error.headers()
    assert "log_tail" in error.more  # which others are told
    other = TooLarge(10)
    assert other.without_logs() is other


@pytest.mark.parametrize(
    ("seconds", "said"), [(None, None), (0.0, "1"), (0.2, "1"), (10.0, "10"), (10.1, "11")]
)
def test_who_comes_back_when_told_does_not_come_too_early(
    seconds: float | None, said: str | None
) -> None:
    headers = Unavailable("m", code="queue_full", retry_after=seconds).headers()
    assert headers.get("retry-after") == said


def test_a_model_that_is_not_there_is_answered_with_what_there_is() -> None:
    assert str(ModelNotFound("x", ["a", "b"])) == "There is no model 'x'. Models: a, b."
    assert "no box has been heard yet" in str(ModelNotFound("x", []))


def test_times_and_sizes_are_told_in_words() -> None:
    said = "x could not be had within 600 s, the router's queue.max_wait."
    assert str(QueueTimeout("x", 600.4)) == said
    assert str(TooLarge(10)) == "The body is larger than 10 bytes."
    assert str(EngineStalled(300.0)).startswith("The engine was silent for 300 s, its")


def test_half_a_character_can_be_told() -> None:
    assert json.loads(ModelNotFound("\ud800", ["\ud800"]).body())["error"]["param"] == "model"


def test_the_tree_on_top_of_the_file_shows_every_class_with_its_status() -> None:
    drawn = {
        name: int(status)
        for name, status in re.findall(r"── (\w+) +(\d{3})", shared.errors.__doc__ or "")
    }
    direct = {cls.__name__: cls.status for cls in SwapyardError.__subclasses__()}
    assert drawn == direct
    text = Path(shared.errors.__file__).read_text()
    for error, _, code, _ in SURFACE:
        assert code in text, type(error)


def test_what_an_engine_says_of_a_request_is_told_but_never_logged() -> None:
    quoting = EngineFailed("cannot parse: a prompt", code="engine_error", engine_status=400)
    assert quoting.for_log() == {"code": "engine_error", "engine_status": 400}
    ours = QueueTimeout("x", 3)
    assert ours.for_log() == {"code": "queue_timeout", "message": str(ours)}
