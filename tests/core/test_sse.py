from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.sse import Decoder, Event, EventTooLarge, Gauge, comment, encode

# What `str.splitlines` splits on, and more that is easily got wrong.
ODD = "\u2028\u2029\u0085\x0b\x0c\x1c\x1d\x1e\x00\ufeff é😀:"
TEXTS = st.text(st.sampled_from(ODD + "ab \n"), max_size=12)
NAMES = st.text(st.sampled_from("abc \u2028:"), min_size=1, max_size=4)
EVENTS = st.builds(Event, data=TEXTS, event=NAMES, id=NAMES)
ENDS = ["\n", "\r", "\r\n"]


def decoded(raw: bytes, limit: int = 1000) -> list[Event]:
    return Decoder(limit).feed(raw)


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    at = sorted({0, len(raw), *(place % (len(raw) + 1) for place in places)})
    return [raw[start:end] for start, end in pairwise(at)]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(EVENTS, max_size=4), st.sampled_from(ENDS), st.lists(st.integers(0, 400), max_size=8)
)
def test_what_was_encoded_is_decoded_wherever_the_wire_cuts_it_and_however_lines_end(
    events: list[Event], end: str, places: list[int]
) -> None:
    raw = b": hello\n\n" + b"".join(map(encode, events)) + comment("heart beat")
    raw = raw.replace(b"\n", end.encode())
    decoder = Decoder(10_000)
    assert [event for piece in cut(raw, places) for event in decoder.feed(piece)] == events


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"data: a", b"event: b", b"id: 1", b": c", b"\r", b"\n", b"\r\n", b"\xff"])
    ).map(b"".join),
    st.lists(st.integers(0, 100), max_size=8),
)
def test_no_cut_changes_what_is_read_even_of_nonsense(raw: bytes, places: list[int]) -> None:
    decoder = Decoder()
    assert [e for piece in cut(raw, places) for e in decoder.feed(piece)] == decoded(raw)


def test_an_event_is_encoded_to_the_byte() -> None:
    assert encode(Event("a")) == b"data: a\n\n"
    assert encode(Event("a\nb\r\nc\rd", "status", "b1:7")) == (
        b"event: status\nid: b1:7\ndata: a\ndata: b\ndata: c\ndata: d\n\n"
    )
    assert encode(Event("")) == b"data: \n\n"


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\0b", "a\n\ndata: forged"])
def test_a_name_or_an_id_cannot_forge_a_line(name: str) -> None:
    with pytest.raises(ValueError, match="a line break"):
        encode(Event("x", event=name))
    with pytest.raises(ValueError, match="a line break"):
        encode(Event("x", id=name))


def test_a_line_end_that_is_cut_in_two_is_one_line_end() -> None:
    decoder = Decoder()
    assert decoder.feed(b"data: a\r") == []
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\ndata: b\r") == []
    assert decoder.feed(b"\n\r") == [Event("a\nb")]
    assert decoder.feed(b"\n\n\n") == []


def test_an_event_is_there_with_the_first_byte_that_ends_it() -> None:
    assert decoded(b"data: a\r\r") == [Event("a")]
    assert decoded(b"data: a\n\n") == [Event("a")]
    assert decoded(b"data: a\r\n\r") == [Event("a")]
    assert decoded(b"data: a\n") == []


def test_separators_that_are_no_line_ends_stay_inside_the_data() -> None:
    text = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg"
    assert decoded(encode(Event(text))) == [Event(text)]


def test_comments_and_unknown_fields_are_no_events() -> None:
    raw = b": beat\n\nretry: 5\n\nnonsense\n\n: beat\ndata: a\n: beat\n\n"
    assert decoded(raw) == [Event("a")]


def test_only_the_first_space_after_the_colon_is_no_part_of_a_value() -> None:
    assert decoded(b"data:a\n\n") == [Event("a")]
    assert decoded(b"data:  a: b \n\n") == [Event(" a: b ")]
    assert decoded(b"data\n\n") == [Event("")]


def test_an_event_s_name_is_its_own_and_an_id_holds_until_the_next() -> None:
    raw = b"event: status\nid: 1\ndata: a\n\ndata: b\n\nid: 2\ndata: c\n\nid: x\0y\ndata: d\n\n"
    assert decoded(raw) == [
        Event("a", "status", "1"),
        Event("b", "message", "1"),
        Event("c", "message", "2"),
        Event("d", "message", "2"),
    ]


def test_a_name_without_data_is_no_event_and_is_forgotten() -> None:
    assert decoded(b"event: gone\n\ndata: a\n\n") == [Event("a")]


def test_bytes_that_are_no_utf_8_are_replaced_and_not_fatal() -> None:
    assert decoded(b"data: a\xffb\n\n") == [Event("a\ufffdb")]


def test_a_byte_order_mark_is_not_looked_for_and_costs_its_line() -> None:
    assert decoded(b"\xef\xbb\xbfdata: a\ndata: b\n\n") == [Event("b")]


@pytest.mark.parametrize("raw", [b"data: " + b"x" * 20, b"data: x\n" * 3, b": " + b"x" * 20])
def test_an_event_that_does_not_end_is_an_error_and_not_a_memory_leak(raw: bytes) -> None:
    with pytest.raises(EventTooLarge, match="20 bytes"):
        decoded(raw, limit=20)
    decoder = Decoder(20)
    for byte in raw[:20]:
        decoder.feed(bytes([byte]))
    with pytest.raises(EventTooLarge):
        decoder.feed(raw[20:21])


def test_the_limit_is_of_one_event_and_not_of_the_stream() -> None:
    raw = b"data: 123456789012\n\n"
    assert len(raw) == 20
    assert len(decoded(raw * 50, limit=20)) == 50


def test_a_stream_of_nothing_but_heartbeats_may_go_on_for_ever() -> None:
    decoder = Decoder(40)
    for _ in range(100):
        assert decoder.feed(comment("still here")) == []
    assert decoder.feed(b"data: a\n\n") == [Event("a")]


@pytest.mark.parametrize("text", ["a\nb", "a\r\n\r\nb", " a  b\n", "a\u2028b"])
def test_a_comment_is_one_line_whatever_it_says(text: str) -> None:
    assert comment(text) == b": a b\n"


# An event that is passed on as it comes.


def gauged(limit: int, *chunks: bytes) -> None:
    gauge = Gauge(limit)
    for chunk in chunks:
        gauge.feed(chunk)


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\r\n\n"])
@pytest.mark.parametrize("cut", [1, 2, 3, 5, 7, 100])
def test_a_long_stream_of_short_events_is_never_too_large(end: bytes, cut: int) -> None:
    stream = (b"data: 12345" + end) * 50
    gauged(20, *(stream[at : at + cut] for at in range(0, len(stream), cut)))


@pytest.mark.parametrize("cut", [1, 2, 7, 20])
@pytest.mark.parametrize("before", [b"", b"data: 1\n\n", b"data: 1\r\n\r\n"])
@pytest.mark.parametrize("end", [b"", b"\n\n"])
def test_an_event_is_too_large_from_one_byte_beyond_the_limit_on_wherever_it_is_cut(
    before: bytes, end: bytes, cut: int
) -> None:
    fits = before + b"x" * (20 - len(end)) + end
    gauged(20, *(fits[at : at + cut] for at in range(0, len(fits), cut)))
    large = before + b"x" * (21 - len(end)) + end
    with pytest.raises(EventTooLarge, match="20 bytes"):
        gauged(20, *(large[at : at + cut] for at in range(0, len(large), cut)))
