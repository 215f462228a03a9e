from __future__ import annotations

import json
import random
from bisect import bisect
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.call import Call, is_sane_id, read, with_model, with_usage
from shared.errors import InvalidRequest, NotFound

T = TypeVar("T")

SPACES = st.text(" \t\r\n", max_size=2)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text(max_size=6)
    | st.just('"model": "inside a text"')
)
KEYS = st.sampled_from(["model", "stream", "messages", "", "mödel", '"'])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def escaped(text: str, rng: random.Random) -> str:
    """One of the many ways in which JSON may spell a text."""
    return '"' + "".join(_spelt(c, rng) for c in text) + '"'


def _spelt(character: str, rng: random.Random) -> str:
    plain = json.dumps(character, ensure_ascii=rng.random() < 0.5)[1:-1]
    is_short = len(character.encode("utf-16-le", "surrogatepass")) == 2
    return f"\\u{ord(character):04X}" if is_short and rng.random() < 0.3 else plain


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, str, str]:
    """What stands before, in and after the value of the top-level `model`."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    others = draw(st.lists(st.tuples(KEYS.filter(lambda k: k != "model"), VALUES), max_size=4))
    members = [(key, value) for key, value in dict(others).items() if key != "stream"]
    at = draw(st.integers(0, len(members)))
    name = escaped(draw(st.text(min_size=1, max_size=8)), rng)

    def written(key: str, value: str) -> tuple[str, str, str]:
        before = draw(SPACES) + escaped(key, rng) + draw(SPACES) + ":" + draw(SPACES)
        return before, value, draw(SPACES)

    def joined(some: list[tuple[str, Any]]) -> list[str]:
        return ["".join(written(k, json.dumps(v, indent=rng.choice([None, 1])))) for k, v in some]

    before, value, after = written("model", name)
    head, tail = joined(members[:at]), joined(members[at:])
    start = draw(SPACES) + "{" + "".join(member + "," for member in head) + before
    return start, value, after + "".join("," + member for member in tail) + "}" + draw(SPACES)


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def refusal(body: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read("chat/completions", "", body)
    return caught.value


def unless_refused(work: Callable[[], T]) -> T | InvalidRequest:
    try:
        return work()
    except InvalidRequest as refused:
        return refused


@settings(max_examples=30, deadline=None)
@given(bodies(), st.text(max_size=8))
def test_a_body_goes_on_byte_by_byte_but_for_the_value_of_its_own_model(
    body: tuple[str, str, str], served_name: str
) -> None:
    before, value, after = body
    raw = encoded(before + value + after)
    try:
        raw.decode()
    except UnicodeDecodeError:
        assert refusal(raw).code == "invalid_json"
        return
    assert read("chat/completions", "", raw).name == json.loads(value)
    changed = with_model(raw, served_name)
    assert changed == encoded(before) + json.dumps(served_name).encode() + encoded(after)
    assert json.loads(changed)["model"] == served_name


@settings(max_examples=50, deadline=None)
@given(
    st.binary(max_size=30)
    | VALUES.map(lambda value: encoded(json.dumps(value)))
    | st.text('{}[]":,\\model strutfan0Ee-\ufeff\ud800', max_size=40).map(encoded)
)
def test_whatever_comes_it_is_a_call_or_the_client_s_fault(body: bytes) -> None:
    call = unless_refused(lambda: read("completions", "", body))
    if isinstance(call, InvalidRequest):
        assert json.loads(call.body())["error"]["code"] == call.code
    else:
        assert json.loads(with_model(body, "m"))["model"] == "m"
        assert call.body is body or call.keep_alive is not None


def test_a_call_says_which_model_and_whether_it_streams() -> None:
    body = b'{"model": "x", "stream": true}'
    call = read("chat/completions", "", body)
    assert (call.path, call.name, call.stream) == ("chat/completions", "x", True)
    assert call.body is body
    for text in (b'{"model": "x"}', b'{"model": "x", "stream": false}'):
        assert read("completions", "", text).stream is False
    assert read("completions", "", b'{"model": "x", "stream": null}').stream is False


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b'{"model": "x"} {}',
        b'{"model": "x",}',
        b"{'model': 'x'}",
        b'\xef\xbb\xbf{"model": "x"}',  # RFC 8259: no byte order mark
        b'{"model": "\xed\xa0\x80"}',  # a surrogate is not UTF-8
        b'{"model": "a\nb"}',
        b'{"model": "x", "n": ' + b"9" * 5000 + b"}",  # more digits than Python reads
        b"[" * 100_000,
        b'{"model": "x", "a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    assert refusal(body).code == "invalid_json"


@pytest.mark.parametrize("body", [b"[]", b'"model"', b"1", b"null", b"[[1, 2]]"])
def test_json_that_is_no_object_is_refused(body: bytes) -> None:
    assert refusal(body).code == "invalid_request"


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"model": ""}',
        b'{"model": 1}',
        b'{"model": null}',
        b'{"model": ["x"]}',
        b'{"Model": "x"}',
        b'{"a": {"model": "x"}}',
    ],
)
def test_a_model_must_be_named_as_text(body: bytes) -> None:
    error = refusal(body)
    assert (error.code, error.param) == ("model_required", "model")


@pytest.mark.parametrize("stream", [b'"true"', b"1", b"0", b"[]"])
def test_stream_is_true_or_false_and_nothing_like_it(stream: bytes) -> None:
    error = refusal(b'{"model": "x", "stream": ' + stream + b"}")
    assert (error.code, error.param) == ("invalid_request", "stream")


@pytest.mark.parametrize(
    ("again", "param"),
    [
        (b'"model": "a"', "model"),
        (b'"model": "b"', "model"),
        (b'"m\\u006fdel": "b"', "model"),
        (b'"MODEL": "b"', "model"),
        (b'"stream": true, "stream": false', "stream"),
        ('"stream": true, "\u017ftream": false'.encode(), "stream"),
        (b'"keep_alive": 1, "Keep_Alive": 2', "keep_alive"),
    ],
)
def test_no_engine_can_read_another_model_than_the_router_did(again: bytes, param: str) -> None:
    for body in (b'{"model": "a", ' + again + b"}", b"{" + again + b', "model": "a"}'):
        error = refusal(body)
        assert (error.code, error.param) == ("invalid_request", param)


def test_a_key_that_nobody_decides_by_may_stand_there_twice() -> None:
    body = b'{"user": 1, "model": "a", "user": 2, "x": {"model": "b", "model": "c"}}'
    assert read("completions", "", body).name == "a"
    assert with_model(body, "z") == body.replace(b'"a"', b'"z"')


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity"])
def test_a_number_that_only_some_read_is_no_json(number: bytes) -> None:
    assert refusal(b'{"model": "a", "x": [' + number + b"]}").code == "invalid_json"


def test_a_name_with_half_a_character_can_be_told_back() -> None:
    name = read("completions", "", b'{"model": "\\ud800"}').name
    assert name == "\ud800"
    assert with_model(b'{"model": "\\ud800"}', "a") == b'{"model": "a"}'


def test_a_body_nested_to_the_limit_is_the_client_s_fault_wherever_it_is_looked_at() -> None:
    def body(depth: int) -> bytes:
        return b'{"a": ' + b"[" * depth + b"]" * depth + b', "model": "x"}'

    def deeper(frames: int, raw: bytes) -> bytes:
        return deeper(frames - 1, raw) if frames else with_model(raw, "y")

    def is_refused(depth: int) -> bool:
        call = unless_refused(lambda: read("completions", "", body(depth)))
        return isinstance(call, InvalidRequest)

    deepest = bisect(range(100_000), False, key=is_refused) - 1
    changed = unless_refused(lambda: deeper(100, body(deepest)))
    if isinstance(changed, InvalidRequest):
        assert changed.code == "invalid_json"
    else:
        assert changed == body(deepest).replace(b'"x"', b'"y"')


@pytest.mark.parametrize("id", ["a", "req_01.A-b", "x" * 128])
def test_a_sane_request_id_is_kept(id: str) -> None:
    assert is_sane_id(id)


@pytest.mark.parametrize("id", [None, "", "x" * 129, "a b", "a\n", "\nset-cookie: x", "é", "a/b"])
def test_a_request_id_that_could_forge_a_header_or_a_log_line_is_not(id: str | None) -> None:
    assert not is_sane_id(id)


@pytest.mark.parametrize("path", ["chat\0", "chat\n", "chat\\..\\..", "\u202etahc"])
def test_a_path_that_some_read_otherwise_is_no_path(path: str) -> None:
    with pytest.raises(NotFound):
        read(path, "", b'{"model": "x"}')


@pytest.mark.parametrize("path", ["", "../models/x/load", "chat/../../..", "./chat", "chat//x"])
def test_a_path_that_leads_out_of_v1_is_no_path(path: str) -> None:
    with pytest.raises(NotFound):
        read(path, "", b'{"model": "x"}')


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (
            b'{"model": "x", "n": 1e400}',
            b'{"stream_options": {"include_usage": true}, "model": "x", "n": 1e400}',
        ),
        (
            b' {"stream_options" : {"a": 1} , "model": "x"}',
            b' {"stream_options" : {"a": 1, "include_usage": true} , "model": "x"}',
        ),
        (
            b'{"model": "x", "stream_options": null}',
            b'{"model": "x", "stream_options": {"include_usage": true}}',
        ),
    ],
)
def test_a_count_of_tokens_is_asked_for_and_all_else_stays_as_it_came(
    body: bytes, asked: bytes
) -> None:
    assert with_usage(body) == asked


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (b'{"keep_alive": 5, "model": "x"}', b'{"model": "x"}'),
        (b' { "keep_alive" :5 ,"model":"x"} ', b' { "model":"x"} '),
        (b'{"model": "x", "keep_alive": 5}', b'{"model": "x"}'),
        (
            b'{"model": "x" , "keep\\u005falive": "5s" , "a": {"keep_alive": 1}}',
            b'{"model": "x" , "a": {"keep_alive": 1}}',
        ),
    ],
)
def test_a_keep_alive_is_read_and_the_engine_gets_all_else_as_it_came(
    body: bytes, left: bytes
) -> None:
    call = read("chat/completions", "", body)
    assert (call.keep_alive, call.body) == (5.0, left)


def test_without_a_keep_alive_there_is_no_wish_and_null_is_none() -> None:
    body = b'{"model": "x", "a": {"keep_alive": 1}}'
    assert read("completions", "", body) == Call("completions", "", "x", False, body)
    null = read("completions", "", b'{"model": "x", "keep_alive": null}')
    assert (null.keep_alive, null.body) == (None, b'{"model": "x"}')


def test_a_keep_alive_that_is_none_is_the_client_s_fault() -> None:
    error = refusal(b'{"model": "x", "keep_alive": "soon"}')
    assert (error.status, error.code, error.param) == (400, "invalid_request", "keep_alive")
