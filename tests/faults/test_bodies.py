"""F52, F56: bodies and paths that are meant to confuse. Each is refused by its own fault, and no
box hears of what it could read in another way than its router.
"""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.faults.doors import call
from tests.http.yards import CHAT, Yard, error_of, yard

SIZE = 10 * 2**20  # bytes


@pytest.fixture(scope="module")
async def it(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    async with yard(tmp_path_factory.mktemp("bodies")) as it:
        yield it


async def posted(it: Yard, body: bytes) -> httpx.Response:
    it.reset()
    return await it.http.post(CHAT, content=body, headers={"content-type": "application/json"})


NO_JSON = {
    "nothing": b"",
    "half": b'{"model": "warm"',
    "two": b'{"model": "warm"} {"model": "warm"}',
    "lists 100,000 deep": b'{"model": "warm", "a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "objects 100,000 deep": b'{"model": "warm", "a": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
    "an open end, 100,000 deep": b"[" * 100_000,
    "a number of 5,000 digits": b'{"model": "warm", "n": ' + b"9" * 5000 + b"}",
    "NaN": b'{"model": "warm", "temperature": NaN}',
    "no end of it": b'{"model": "warm", "a": [-Infinity]}',
    "a comma too many": b'{"model": "warm",}',
    "a comment": b'{"model": "warm"} // yes',
    "single quotes": b"{'model': 'warm'}",
    "a control character": b'{"model": "warm", "a": "\x01"}',
    "invalid UTF-8": b'{"model": "warm", "a": "\xff\xfe"}',
    "an encoded surrogate": b'{"model": "warm", "a": "\xed\xa0\x80"}',
    "a BOM": b'\xef\xbb\xbf{"model": "warm"}',
    "UTF-16": json.dumps({"model": "warm"}).encode("utf-16"),
    "UTF-16 without a BOM": json.dumps({"model": "warm"}).encode("utf-16-le"),
    "UTF-32": json.dumps({"model": "warm"}).encode("utf-32"),
}
OTHERS = {
    "a list": (b'["model", "warm"]', "invalid_request", None),
    "a text": (b'"warm"', "invalid_request", None),
    "a number": (b"1e999", "invalid_request", None),
    "null": (b"null", "invalid_request", None),
    "no model": (b"{}", "model_required", "model"),
    "an empty model": (b'{"model": ""}', "model_required", "model"),
    "a model that is a list": (b'{"model": ["warm"]}', "model_required", "model"),
    "a model that is an object": (b'{"model": {"a": 1}}', "model_required", "model"),
    "a model that is a number": (b'{"model": 1}', "model_required", "model"),
    "a stream in words": (b'{"model": "warm", "stream": "true"}', "invalid_request", "stream"),
    "a stream in numbers": (b'{"model": "warm", "stream": 1}', "invalid_request", "stream"),
    "two models": (b'{"model": "warm", "model": "cold"}', "invalid_request", "model"),
    "the same model twice": (b'{"model": "warm", "model": "warm"}', "invalid_request", "model"),
    "two models, one in capitals": (
        b'{"model": "warm", "MODEL": "cold"}',
        "invalid_request",
        "model",
    ),
    "two models, one escaped": (
        rb'{"model": "warm", "\u006dodel": "cold"}',
        "invalid_request",
        "model",
    ),
    "two streams": (
        b'{"model": "warm", "stream": true, "stream": false}',
        "invalid_request",
        "stream",
    ),
}


@pytest.mark.parametrize("what", NO_JSON)
async def test_f52_what_is_no_json_is_a_400_and_reaches_no_engine(it: Yard, what: str) -> None:
    response = await posted(it, NO_JSON[what])
    assert (response.status_code, error_of(response)["code"]) == (400, "invalid_json")
    assert it.box.exchanges == []


@pytest.mark.parametrize("what", OTHERS)
async def test_f52_what_two_readers_could_take_for_two_things_reaches_no_engine(
    it: Yard, what: str
) -> None:
    body, code, param = OTHERS[what]
    response = await posted(it, body)
    error = error_of(response)
    assert (response.status_code, error["code"], error["param"]) == (400, code, param)
    assert it.box.exchanges == []


ODD_NAMES = {
    "a lone surrogate": r"\ud800",
    "two in the wrong order": r"\udc00\ud800",
    "a NUL": r"warm\u0000",
    "ends of lines": r"warm\r\nX-Injected: 1",
    "U+2028": r"\u2028",
    "up and away": "../../etc/passwd",
    "an absolute path": "/etc/passwd",
    "a switch": "-m",
    "a long switch": "--flag",
    "a drive": r"C:\\",
    "written from right to left": r"\u202emraw",
    "a Cyrillic a": r"w\u0430rm",
    "another case": "Warm",
    "a space": "warm ",
    "a percent": "%77arm",
    "braces": "{port}",
    "10 KB": "x" * 10_000,
}


@pytest.mark.parametrize("what", ODD_NAMES)
async def test_f56_a_name_is_looked_up_and_nothing_else(it: Yard, what: str) -> None:
    response = await posted(it, f'{{"model": "{ODD_NAMES[what]}"}}'.encode())
    assert (response.status_code, error_of(response)["code"]) == (404, "model_not_found")
    assert it.box.exchanges == []
    for path in ("/props", "/slots", "/api/explain"):
        name = json.loads(f'"{ODD_NAMES[what]}"').encode("utf-8", "surrogatepass")
        asked = await it.http.get(path, params={"model": name.decode("utf-8", "replace")})
        assert asked.status_code in (400, 404, 414), path


VALUES = {
    "a lone surrogate": rb'{"model": "warm", "a": "\ud800"}',
    "a key of 10 MB": b'{"model": "warm", "' + b"k" * SIZE + b'": 1}',
    "many choices": b'{"model": "warm", "n": 1e9}',
    "less than no tokens": b'{"model": "warm", "max_tokens": -1}',
    "a number of 4,000 digits": b'{"model": "warm", "n": ' + b"9" * 4000 + b"}",
    "900 deep": b'{"model": "warm", "a": ' + b"[" * 900 + b"]" * 900 + b"}",
    "two of what is none of ours": b'{"model": "warm", "a": 1, "a": 2}',
    "a model deeper down": b'{"model": "warm", "a": {"model": "cold"}}',
}


@pytest.mark.parametrize("what", VALUES)
async def test_f52_what_is_the_engines_to_judge_reaches_it_as_it_came(it: Yard, what: str) -> None:
    response = await posted(it, VALUES[what])
    assert response.status_code == 200
    exchange = await it.exchange()
    assert exchange.body == VALUES[what]


PATHS = (
    b"/v1/../healthz",
    b"/v1/..%2fhealthz",
    b"/v1/%2e%2e/healthz",
    b"/v1/chat/../../api/fleet",
    b"/v1/chat%00/completions",
    b"/v1//chat/completions",
    b"//v1/chat/completions",
    b"/v1/./chat/completions",
    b"/v1/chat/completions/..",
    b"/V1/chat/completions",
    b"/v1%2fchat/completions/..%2f..%2f..%2fetc/passwd",
    b"/../../../../etc/passwd",
    b"/engines/warm/v1/chat/completions",
    b"/v1/" + b"x/" * 2000,
    b"/static/../router.yaml",
    b"http://127.0.0.1/v1/../healthz",
    b"*",
    b"/v1/chat/completions\\..\\..",
)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:40].decode())
async def test_f56_no_path_leads_out_of_where_it_begins(it: Yard, path: bytes) -> None:
    it.reset()
    body = b'{"model": "warm"}'
    async with call(it.server.url) as caller:
        caller.say(b"POST %b HTTP/1.1\r\nHost: a\r\n" % path)
        caller.say(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        status, _ = await asyncio.wait_for(caller.answer(), 10)
    assert status in (400, 404, 405)
    assert it.box.exchanges == []
