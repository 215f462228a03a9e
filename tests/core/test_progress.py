from __future__ import annotations

import dataclasses
import json
from typing import Any, get_args

import pytest

from router.config import Dialect
from router.progress import (
    DIALECTS,
    OFF,
    format_of,
    interval,
    known_dialect,
    served,
    speaks,
    switching,
)
from router.story import Tell
from router.voice import Format, Stream, Told
from shared.errors import InvalidRequest, QueueTimeout
from shared.sse import Decoder
from shared.status import Phase, Step

CHAT = Stream("chatcmpl-1", "qwen3-8b", 1795251430, "chat")
TEXT = dataclasses.replace(CHAT, format="text")
OTHER = dataclasses.replace(CHAT, format="other")

TELL = Tell(
    model="qwen3-8b",
    phase=Phase.STARTING,
    step=Step.AWAITING_READINESS,
    at=1795251429.5,
    from_=("llama3-8b",),
    box="box1",
    position=2,
    elapsed_s=3.125,
    eta_s=4.2,
    eta_source="history",
    progress=0.42,
    progress_source="engine",
)
TOLD = (
    b'"model_switching":{"phase":"starting","step":"waiting for readiness",'
    b'"at":1795251429.5,"model":"qwen3-8b","from":["llama3-8b"],"box":"box1",'
    b'"position":2,"elapsed_s":3.125,"eta_s":4.2,"eta_source":"history","progress":0.42,'
    b'"progress_source":"engine"}'
)


AT = 1795251431.0


def frame(dialect: str, stream: Stream, told: Told) -> bytes:
    return speaks(dialect, stream).tells(told, AT)


def test_a_chat_frame_is_a_complete_chunk_with_an_empty_delta_to_the_byte() -> None:
    assert frame("events", CHAT, switching(TELL)) == (
        b"event: model_switching\n"
        b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795251430,'
        b'"model":"qwen3-8b","choices":[{"index":0,"delta":{},"finish_reason":null}],'
        + TOLD
        + b"}\n\n"
    )


def test_a_text_frame_is_a_complete_chunk_without_text_to_the_byte() -> None:
    assert frame("events", TEXT, switching(TELL)) == (
        b"event: model_switching\n"
        b'data: {"id":"chatcmpl-1","object":"text_completion","created":1795251430,'
        b'"model":"qwen3-8b","choices":[{"index":0,"text":"","finish_reason":null}],'
        + TOLD
        + b"}\n\n"
    )


def data_of(raw: bytes) -> str:
    (event,) = Decoder().feed(raw)
    assert event.event == "model_switching"
    return event.data


def test_what_is_not_known_is_null_and_what_was_decided_comes_on_top() -> None:
    tell = Tell("x", Phase.READY, None, None, (), "box1", 1, 0.5, None, None, None, None)
    told = switching(tell) | served("loaded", 1.23456)
    said = json.loads(data_of(frame("events", CHAT, told)))["model_switching"]
    assert said["from"] == []
    assert [said[key] for key in ("step", "at", "eta_s", "progress")] == [None] * 4
    assert (said["reason"], said["waited_ms"]) == ("loaded", 1235)


@pytest.mark.parametrize("stream", [CHAT, TEXT, OTHER])
def test_a_comment_is_one_line_with_no_blank_line_of_its_own(stream: Stream) -> None:
    said = frame("comments", stream, switching(TELL))
    assert said == b": starting waiting for readiness 42% place 2\n"


TALKING = [name for name in DIALECTS if name != OFF]


@pytest.mark.parametrize("dialect", TALKING)
def test_a_stream_that_is_not_made_of_chunks_gets_comments(dialect: str) -> None:
    voice = speaks(dialect, OTHER)
    assert voice.opens(AT) == b""
    assert voice.tells(switching(TELL), AT).startswith(b": starting")
    assert not voice.needs_usage


@pytest.mark.parametrize("stream", [CHAT, TEXT, OTHER])
def test_off_says_nothing_and_passes_on_what_the_engine_says(stream: Stream) -> None:
    voice = speaks(OFF, stream)
    assert not voice.talks
    assert voice.opens(AT) + voice.tells(switching(TELL), AT) + voice.ends(AT) == b""
    assert [*voice.answers(b"data: x", AT)] == [b"data: x"]


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name != "status"])
def test_the_engines_bytes_are_untouched_and_a_failure_is_an_error_object(dialect: str) -> None:
    voice, error = speaks(dialect, CHAT), QueueTimeout("x", 3)
    assert voice.opens(AT) == b""
    assert [*voice.answers(b"data: {\n", AT)] == [b"data: {\n"]
    assert voice.ends(AT) == b""
    assert voice.fails(error, AT) == error.event()


def chunk_of(raw: bytes, event: str) -> dict[str, Any]:
    (seen,) = Decoder().feed(raw)
    assert seen.event == event
    return dict(json.loads(seen.data))


WORDS = "qwen3-8b on box1: waiting for readiness, place 2, 42 %, about 5 s left\n"


def test_reasoning_is_a_complete_chunk_with_a_readable_line() -> None:
    said = chunk_of(frame("reasoning", CHAT, switching(TELL)), "message")
    assert said["object"] == "chat.completion.chunk"
    assert said["choices"] == [
        {"index": 0, "delta": {"reasoning_content": WORDS}, "finish_reason": None}
    ]
    assert "model_switching" not in said


def test_reasoning_of_a_text_completion_stands_beside_its_empty_text() -> None:
    said = chunk_of(frame("reasoning", TEXT, switching(TELL)), "message")
    assert said["object"] == "text_completion"
    assert said["choices"] == [
        {"index": 0, "text": "", "reasoning_content": WORDS, "finish_reason": None}
    ]


def test_events_and_reasoning_come_in_one_frame() -> None:
    said = chunk_of(frame("events+reasoning", CHAT, switching(TELL)), "model_switching")
    assert said["choices"][0]["delta"] == {"reasoning_content": WORDS}
    assert said["model_switching"] == switching(TELL)


@pytest.mark.parametrize("dialect", ["reasoning", "events+reasoning"])
def test_a_frame_with_nothing_new_to_read_is_an_empty_chunk(dialect: str) -> None:
    voice = speaks(dialect, CHAT)
    voice.tells(switching(TELL), AT)
    again = Decoder().feed(voice.tells(switching(TELL), AT))
    assert json.loads(again[0].data)["choices"][0]["delta"] == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"step": None}, b": starting 42% place 2\n"),
        ({"progress": None}, b": starting waiting for readiness place 2\n"),
        ({"progress": 0.0}, b": starting waiting for readiness 0% place 2\n"),
        ({"position": 0}, b": starting waiting for readiness 42%\n"),
        ({"step": "two\n\nlines\r\n"}, b": starting two lines 42% place 2\n"),
    ],
)
def test_a_comment_says_what_is_known(change: dict[str, Any], said: bytes) -> None:
    told = switching(dataclasses.replace(TELL, **change))
    assert frame("comments", CHAT, told) == said


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_can_be_asked_for(name: str) -> None:
    assert known_dialect(name) == name


@pytest.mark.parametrize("name", ["", "OFF", "events ", "reasoning\n", "x" * 1000])
def test_an_unknown_dialect_is_refused_with_the_names_of_those_there_are(name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"events, reasoning, .*, off") as caught:
        known_dialect(name)
    assert (caught.value.status, caught.value.code) == (400, "bad_progress")


def test_a_config_can_name_exactly_the_dialects_there_are() -> None:
    assert set(get_args(Dialect)) == set(DIALECTS)


@pytest.mark.parametrize(
    ("path", "format"),
    [
        ("chat/completions", "chat"),
        ("completions", "text"),
        ("embeddings", "other"),
        ("audio/speech", "other"),
        ("", "other"),
    ],
)
def test_the_path_tells_what_the_chunks_of_a_stream_look_like(path: str, format: Format) -> None:
    assert format_of(path) == format


@pytest.mark.parametrize(
    ("waiting", "seconds"), [(0, 1.0), (500, 1.0), (1000, 2.0), (2500, 5.0), (10_000, 5.0)]
)
def test_frames_come_less_often_when_very_many_wait(waiting: int, seconds: float) -> None:
    assert interval(1.0, waiting) == seconds
    assert interval(5.0, waiting) == 5.0
