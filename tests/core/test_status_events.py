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


def hears(voice: StatusEvents, raw: bytes) -> list[Any]:
    return read(b"".join(voice.answers(raw, AT)))


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
        (told(phase=Phase.IDLE, step=Step.AWAITING_BOX, box=None), "Waiting for its box..."),
        (told(phase=Phase.IDLE, step=Step.AWAITING_TURN), "Waiting for a turn..."),
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
    assert hears(voice, piece(role="assistant", content=None)) == []
    assert hears(voice, piece(content="You")) == [generating | {"delta": "You"}]
    assert hears(voice, piece(content=" woke")) == [generating | {"delta": " woke"}]
    assert hears(voice, piece(finish="stop")) == []
    assert hears(voice, USAGE + END) == []
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
    said = [event for n in range(0, len(raw), 7) for event in hears(voice, raw[n : n + 7])]
    assert [event["delta"] for event in said] == ["a", "b"]
    assert read(voice.ends(AT))[0]["content"] == "ab"


def test_reasoning_and_tool_calls_of_the_model_are_told_under_their_own_names() -> None:
    voice = answering()
    (thought,) = hears(voice, piece(reasoning_content="hm"))
    assert (thought["delta"], thought["reasoning_content"]) == ("", "hm")
    (call,) = hears(voice, piece(tool_calls=[{"index": 0}]))
    assert call["tool_calls"] == [{"index": 0}]


def test_text_completions_have_pieces_too() -> None:
    voice = StatusEvents(TEXT)
    raw = b'data: {"choices": [{"index": 0, "text": "hi", "finish_reason": "length"}]}\n\n'
    assert [event["delta"] for event in hears(voice, raw)] == ["hi"]
    assert read(voice.ends(AT))[0]["finish_reason"] == "length"


def test_usage_in_the_last_piece_counts_and_what_is_no_piece_is_passed_over() -> None:
    voice = answering()
    raw = {"choices": [{"index": 0, "delta": {"content": "x"}}], "usage": {"total_tokens": 3}}
    hears(voice, b"data: " + json.dumps(raw).encode() + b"\n\n")
    assert hears(voice, b'data: {"object": "ping"}\n\n') == []
    assert hears(voice, b'data: {"choices": [], "usage": null}\n\n') == []
    hears(voice, END)
    assert read(voice.ends(AT))[0]["usage"] == {"total_tokens": 3}


# What goes wrong.


def test_r1_5_a_failure_is_an_error_with_its_code_and_there_is_no_done() -> None:
    voice = StatusEvents(CHAT)
    error = Unavailable("box1 cannot be reached.", code="box_unreachable")
    (said,) = read(voice.fails(error, AT))
    assert (said["status"], said["code"]) == ("error", "box_unreachable")
    assert said["message"] == "box1 cannot be reached."
    assert said["error"]["code"] == "box_unreachable"  # OpenAI's clients raise on this


@pytest.mark.parametrize(
    "error",
    [
        QueueTimeout("x", 600),
        EngineFailed("silent", code="engine_stalled"),
        LoadFailed("not ready within 5 s", "timeout", [], None),
        LoadFailed("no sign of progress for 5 s", "stalled", [], None),
    ],
)
def test_r1_5_what_takes_too_long_is_a_timeout(error: Any) -> None:
    (said,) = read(StatusEvents(CHAT).fails(error, AT))
    assert (said["status"], said["code"]) == ("timeout", error.code)


@pytest.mark.parametrize(
    ("said", "message", "code"),
    [
        ({"error": {"message": "gone", "code": "engine_died"}}, "gone", "engine_died"),
        ({"error": {"message": "gone", "code": 500}}, "gone", "engine_error"),
        ({"error": {"code": 500}}, "The engine has failed.", "engine_error"),
        ({"error": "CUDA error"}, "CUDA error", "engine_error"),
        ({"object": "error", "message": "gone", "code": 400}, "gone", "engine_error"),
    ],
)
def test_an_error_in_the_engines_stream_ends_it_whatever_its_shape(
    said: dict[str, Any], message: str, code: str
) -> None:
    voice = answering()
    raw = piece(content="You") + b"data: " + json.dumps(said).encode() + b"\n\n" + END
    heard = voice.answers(raw, AT)
    assert json.loads(Decoder().feed(next(iter(heard)))[0].data)["delta"] == "You"
    with pytest.raises(EngineFailed) as raised:
        next(iter(heard))
    assert (raised.value.message, raised.value.code) == (message, code)
    (told,) = read(voice.fails(raised.value, AT))
    assert (told["status"], told["model"], told["backend"]) == ("error", "demo-big", "box1")


@pytest.mark.parametrize("raw", [piece(content="You"), END, b"error: {}\n\n" + END, b""])
def test_a_stream_that_ends_early_is_never_done(raw: bytes) -> None:
    voice = answering()
    hears(voice, raw)
    with pytest.raises(EngineFailed) as raised:
        voice.ends(AT)
    assert raised.value.code == "engine_died"


def test_of_several_answers_the_first_is_told() -> None:
    voice = answering()
    both = [
        {"index": n, "delta": {"content": c}, "finish_reason": "stop"}
        for n, c in ((1, "b"), (0, "a"))
    ]
    hears(voice, b"data: " + json.dumps({"choices": both}).encode() + b"\n\n")
    other = {"choices": [{"index": 1, "delta": {"content": "c"}}, 7]}
    assert hears(voice, b"data: " + json.dumps(other).encode() + b"\n\n" + END) == []
    assert read(voice.ends(AT))[0]["content"] == "a"


@pytest.mark.parametrize(
    "delta",
    [{"content": ["part"]}, {"status": "done", "message": "m", "timestamp": 0}, "text", None],
)
def test_a_delta_of_another_shape_breaks_nothing_and_says_nothing_in_our_name(delta: Any) -> None:
    voice = answering()
    raw = {"choices": [{"index": 0, "delta": delta, "finish_reason": "stop"}]}
    assert hears(voice, b"data: " + json.dumps(raw).encode() + b"\n\n" + END) == []
    assert read(voice.ends(AT))[0]["content"] == ""


def test_a_stream_that_is_no_json_is_an_error() -> None:
    with pytest.raises(EngineFailed) as raised:
        hears(answering(), b"data: <html>\n\n")
    assert raised.value.code == "engine_error"


def test_what_is_kept_of_an_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_events, "LONGEST_CONTENT", 3)
    voice = answering()
    hears(voice, piece(content="abc"))
    with pytest.raises(EngineFailed) as raised:
        hears(voice, piece(content="d"))
    assert raised.value.code == "event_too_large"
    with pytest.raises(EngineFailed) as raised:
        hears(answering(), b"data: " + b"x" * MAX_EVENT)
    assert raised.value.code == "event_too_large"
