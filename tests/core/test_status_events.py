from __future__ import annotations

import json
from typing import Any

import pytest

from router import status_events
from router.progress import served
from router.status_events import StatusEvents
from router.voice import Stream
from shared.errors import EngineFailed, LoadFailed, QueueTimeout, Unavailable
from shared.sse import MAX_EVENT, Decoder
from shared.status import Phase, Step

CHAT = Stream("chatcmpl-1", "demo", 0, "chat")
TEXT = Stream("chatcmpl-1", "demo", 0, "text")
AT = 1795251431.25


def read(raw: bytes) -> list[Any]:
    return [e.data if e.data == "[DONE]" else json.loads(e.data) for e in Decoder().feed(raw)]


def told(**changes: Any) -> dict[str, Any]:
    return {
        "phase": Phase.STARTING,
        "step": Step.AWAITING_READINESS,
        "model": "demo-big",
        "from": ["demo-small"],
        "box": "box1",
        "position": 2,
        "elapsed_s": 1.0,
        "eta_s": 3.2,
        "progress": 0.42,
    } | changes


def ready() -> dict[str, Any]:
    return told(phase=Phase.READY, step=None) | served("loaded", 1.5)


def piece(finish: str | None = None, **delta: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}\n\n'
END = b"data: [DONE]\n\n"


def answering() -> StatusEvents:
    voice = StatusEvents(CHAT)
    voice.tells(ready(), AT)
    return voice


def test_r1_1_routing_is_said_at_once() -> None:
    assert read(StatusEvents(CHAT).opens(1.0)) == [
        {"status": "routing", "message": "Selecting backend...", "timestamp": 1.0}
    ]


def test_r1_4_loading_says_where_how_far_and_how_long_in_whole_seconds() -> None:
    assert read(StatusEvents(CHAT).tells(told(), AT)) == [
        {
            "status": "loading",
            "message": "Warming up model...",
            "timestamp": AT,
            "model": "demo-big",
            "backend": "box1",
            "phase": "starting",
            "step": "waiting for readiness",
            "estimated_time": 4,
            "progress": 0.42,
            "position": 2,
        }
    ]


def test_what_nobody_knows_is_null() -> None:
    (said,) = read(StatusEvents(CHAT).tells(told(eta_s=None, progress=None), AT))
    assert (said["estimated_time"], said["progress"]) == (None, None)


@pytest.mark.parametrize(
    ("waits", "message"),
    [
        (told(phase=Phase.READY, step=Step.AWAITING_SLOT), "Waiting for a slot..."),
        (told(phase=Phase.IDLE, step=Step.AWAITING_BOX, box=None), "Selecting backend..."),
    ],
)
def test_r1_3_nothing_is_called_loading_that_does_not_load(
    waits: dict[str, Any], message: str
) -> None:
    (said,) = read(StatusEvents(CHAT).tells(waits, AT))
    assert (said["status"], said["message"], said["position"]) == ("routing", message, 2)


def test_r1_1_each_piece_comes_as_it_is_made_and_done_repeats_them_all() -> None:
    voice = StatusEvents(CHAT)
    by = {"model": "demo-big", "backend": "box1"}
    generating = {"status": "generating", "message": "Generating response...", "timestamp": AT}
    assert read(voice.tells(ready(), AT)) == [generating | by]
    assert voice.answers(piece(role="assistant", content=None), AT) == b""
    assert read(voice.answers(piece(content="You"), AT)) == [generating | {"delta": "You"}]
    assert read(voice.answers(piece(content=" woke"), AT)) == [generating | {"delta": " woke"}]
    assert voice.answers(piece(finish="stop"), AT) == b""
    assert voice.answers(USAGE + END, AT) == b""
    done, end = read(voice.ends(AT))
    assert end == "[DONE]"
    assert (
        done
        == {
            "status": "done",
            "message": "Done.",
            "timestamp": AT,
            "content": "You woke",
            "finish_reason": "stop",
            "usage": {"prompt_tokens": 5, "completion_tokens": 2},
        }
        | by
    )


def test_chunks_may_be_cut_anywhere_and_hold_several_events() -> None:
    voice, raw = answering(), piece(content="a") + piece(content="b", finish="stop") + END
    said = b"".join(voice.answers(raw[n : n + 7], AT) for n in range(0, len(raw), 7))
    assert [event["delta"] for event in read(said)] == ["a", "b"]
    assert read(voice.ends(AT))[0]["content"] == "ab"


def test_reasoning_and_tool_calls_of_the_model_are_told_under_their_own_names() -> None:
    voice = answering()
    (thought,) = read(voice.answers(piece(reasoning_content="hm"), AT))
    assert (thought["delta"], thought["reasoning_content"]) == ("", "hm")
    (call,) = read(voice.answers(piece(tool_calls=[{"index": 0}]), AT))
    assert call["tool_calls"] == [{"index": 0}]


def test_text_completions_have_pieces_too() -> None:
    voice = StatusEvents(TEXT)
    raw = b'data: {"choices": [{"index": 0, "text": "hi", "finish_reason": "length"}]}\n\n'
    assert [event["delta"] for event in read(voice.answers(raw, AT))] == ["hi"]
    assert read(voice.ends(AT))[0]["finish_reason"] == "length"


def test_usage_in_the_last_piece_counts_and_what_is_no_piece_is_passed_over() -> None:
    voice = answering()
    raw = {"choices": [{"index": 0, "delta": {"content": "x"}}], "usage": {"total_tokens": 3}}
    voice.answers(b"data: " + json.dumps(raw).encode() + b"\n\n", AT)
    assert voice.answers(b'data: {"object": "ping"}\n\n', AT) == b""
    assert voice.answers(b'data: {"choices": [], "usage": null}\n\n', AT) == b""
    voice.answers(END, AT)
    assert read(voice.ends(AT))[0]["usage"] == {"total_tokens": 3}


# What goes wrong.


def test_r1_5_a_failure_is_an_error_with_its_code_and_there_is_no_done() -> None:
    voice = StatusEvents(CHAT)
    error = Unavailable("box1 cannot be reached.", code="box_unreachable")
    (said,) = read(voice.fails(error, AT))
    assert (said["status"], said["code"]) == ("error", "box_unreachable")
    assert said["message"] == "box1 cannot be reached."
    assert said["error"]["code"] == "box_unreachable"  # OpenAI's clients raise on this
    assert voice.ends(AT) == b""


@pytest.mark.parametrize(
    "error",
    [
        QueueTimeout(600),
        EngineFailed("silent", code="engine_stalled"),
        LoadFailed("not ready within 5 s", "timeout", [], None),
    ],
)
def test_r1_5_what_takes_too_long_is_a_timeout(error: Any) -> None:
    (said,) = read(StatusEvents(CHAT).fails(error, AT))
    assert (said["status"], said["code"]) == ("timeout", error.code)


@pytest.mark.parametrize(
    ("code", "expected"), [("engine_died", "engine_died"), (None, "engine_error"), (500,) * 2]
)
def test_an_error_in_the_engines_stream_ends_it(code: Any, expected: Any) -> None:
    voice = answering()
    raw = json.dumps({"error": {"message": "gone", "code": code}}).encode()
    (said,) = read(voice.answers(b"data: " + raw + b"\n\n" + piece(content="late"), AT))
    assert (said["status"], said["message"], said["code"]) == ("error", "gone", str(expected))
    assert (said["model"], said["backend"]) == ("demo-big", "box1")
    assert voice.ends(AT) == b""


def test_a_stream_that_ends_early_is_never_done() -> None:
    voice = answering()
    voice.answers(piece(content="You"), AT)
    (said,) = read(voice.ends(AT))
    assert (said["status"], said["code"]) == ("error", "engine_died")


def test_a_stream_that_is_no_json_is_an_error() -> None:
    with pytest.raises(EngineFailed) as raised:
        answering().answers(b"data: <html>\n\n", AT)
    assert raised.value.code == "engine_error"


def test_what_is_kept_of_an_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_events, "LONGEST_CONTENT", 3)
    voice = answering()
    voice.answers(piece(content="abc"), AT)
    with pytest.raises(EngineFailed) as raised:
        voice.answers(piece(content="d"), AT)
    assert raised.value.code == "event_too_large"
    with pytest.raises(EngineFailed) as raised:
        answering().answers(b"data: " + b"x" * MAX_EVENT, AT)
    assert raised.value.code == "event_too_large"
