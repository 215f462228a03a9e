"""F13 to F16: engines whose answers end before their end, say nothing, or are no event streams.

Half an answer never looks like a whole one, what is whole goes through as it is, and no answer
harms the next.
"""

from collections.abc import AsyncIterator

import anyio
import pytest

from tests.fakes.misbehaviour import DONE, HALF, KINDS, PAGE, TOKENS, Manner, body_of
from tests.faults.streams import Got, Yard, asking, engine, got, yard

# `warm` is asked without any progress; `slow` begins to answer when a streaming client has had its
# early headers for a while. Comments are lines that can be told from the engine's own bytes.
ENGINES = {"warm": (), "slow": ("--first-token-seconds", "0.2")}
DIALECT = {"warm": "off", "slow": "comments"}


@pytest.fixture(scope="module")
async def it(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    folder = tmp_path_factory.mktemp("faults")
    models = "".join(engine(folder, id, *switches) for id, switches in ENGINES.items())
    async with yard(folder, models, *ENGINES) as it:
        yield it


def ends_in(got: Got, code: str) -> bool:
    """HTTP is whole, the last event is that error, and nothing says that all is done."""
    return got.whole and got.code == code and b"[DONE]" not in got.body


# F13: it closes the connection cleanly, before its end.


@pytest.mark.parametrize("model", ENGINES)
@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize("kind", ["eof", "eof-in-event"])
async def test_f13_a_stream_that_ends_before_its_end_ends_in_an_error(
    it: Yard, model: str, framing: str, kind: str
) -> None:
    answer = await got(it.http, asking(model, bad_sse=kind, framing=framing), DIALECT[model])
    assert b"".join(TOKENS) in answer.body
    assert ends_in(answer, "engine_died"), answer
    await it.idle(model)


async def test_f13_what_was_cut_off_is_passed_on_and_does_not_swallow_the_error(it: Yard) -> None:
    answer = await got(it.http, asking("warm", bad_sse="eof-in-event"))
    assert answer.body.startswith(b"".join(TOKENS) + HALF + b"\n\n")
    assert len(answer.events) == len(TOKENS) + 2


@pytest.mark.parametrize("model", ENGINES)
@pytest.mark.parametrize("kind", ["eof-in-chunk", "eof-no-body", "bad-chunk"])
async def test_f13_a_stream_whose_framing_breaks_ends_in_an_error(
    it: Yard, model: str, kind: str
) -> None:
    assert ends_in(await got(it.http, asking(model, bad_sse=kind), DIALECT[model]), "engine_died")


NO_ANSWER = ["eof-no-head", "eof-in-head", "reset-no-head", "no-http", "bad-status"]


@pytest.mark.parametrize("kind", NO_ANSWER)
@pytest.mark.parametrize("stream", [True, False])
async def test_f13_who_has_no_headers_yet_gets_a_502_for_no_answer(
    it: Yard, kind: str, stream: bool
) -> None:
    answer = await got(it.http, asking("warm", stream=stream, bad_sse=kind))
    assert (answer.status, answer.code) == (502, "engine_died")
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("kind", NO_ANSWER)
async def test_f13_who_has_its_headers_gets_an_event_for_no_answer(it: Yard, kind: str) -> None:
    answer = await got(it.http, asking("slow", bad_sse=kind), "events")
    assert answer.status == 200
    assert ends_in(answer, "engine_died")


@pytest.mark.parametrize("framing", ["chunked", "length"])
async def test_f13_half_an_answer_that_is_no_stream_is_broken_off(it: Yard, framing: str) -> None:
    answer = await got(it.http, asking("warm", stream=False, bad_sse="half-json", framing=framing))
    assert not answer.whole


async def test_f13_of_many_that_are_cut_off_not_one_looks_whole(it: Yard) -> None:
    kinds = ["eof", "eof-in-event", "eof-in-chunk", "reset", "reset-in-event", "bad-chunk"]
    answers: list[Got] = []

    async def ask_each() -> None:
        answers.extend([await got(it.http, asking("warm", bad_sse=k)) for k in kinds * 4])

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(ask_each)
    assert len(answers) == 8 * 4 * len(kinds)
    assert [answer for answer in answers if not ends_in(answer, "engine_died")] == []
    await it.well("warm")


async def test_f13_without_framing_a_stream_is_whole_once_it_says_so(it: Yard) -> None:
    answer = await got(it.http, asking("warm", bad_sse="empty", framing="close"))
    assert (answer.body, answer.whole) == (DONE, True)


# F14: the connection is reset.


@pytest.mark.parametrize("model", ENGINES)
@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize("kind", ["reset", "reset-in-event", "reset-no-body"])
async def test_f14_a_stream_that_is_reset_ends_in_an_error(
    it: Yard, model: str, framing: str, kind: str
) -> None:
    answer = await got(it.http, asking(model, bad_sse=kind, framing=framing), DIALECT[model])
    assert ends_in(answer, "engine_died"), answer
    await it.idle(model)


# F15: it has nothing to say.


@pytest.mark.parametrize("framing", ["chunked", "length"])
@pytest.mark.parametrize("kind", ["empty", "nothing"])
async def test_f15_an_empty_stream_is_passed_on_as_it_is(it: Yard, kind: str, framing: str) -> None:
    answer = await got(it.http, asking("warm", bad_sse=kind, framing=framing))
    assert (answer.status, answer.whole) == (200, True)
    assert answer.body == b"".join(KINDS[kind].said)


@pytest.mark.parametrize("kind", ["empty", "nothing"])
async def test_f15_an_empty_stream_after_progress_is_passed_on_as_it_is(
    it: Yard, kind: str
) -> None:
    answer = await got(it.http, asking("slow", bad_sse=kind), "comments")
    lines = answer.body.splitlines(keepends=True)
    assert lines[0].startswith(b": ")
    assert b"".join(line for line in lines if not line.startswith(b": ")) == b"".join(
        KINDS[kind].said
    )
    assert answer.whole


# F16: it is an odd event stream, or none.

ODD = [
    "no-colon",
    "bare-cr",
    "crlf-cut",
    "bom",
    "nul",
    "invalid-utf8",
    "not-json",
    "half-event",
    "only-comments",
]


@pytest.mark.parametrize("framing", ["chunked", "length"])
@pytest.mark.parametrize("kind", ODD)
async def test_f16_an_odd_stream_that_is_whole_is_passed_on_as_it_is(
    it: Yard, kind: str, framing: str
) -> None:
    answer = await got(it.http, asking("warm", bad_sse=kind, framing=framing))
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.body == body_of(Manner(kind))
    assert answer.whole


@pytest.mark.parametrize("kind", ODD)
async def test_f16_an_odd_stream_after_progress_is_passed_on_as_it_is(it: Yard, kind: str) -> None:
    answer = await got(it.http, asking("slow", bad_sse=kind), "comments")
    progress, _, _ = answer.body.partition(body_of(Manner(kind)))
    assert answer.body == progress + body_of(Manner(kind))
    assert all(line.startswith(b": ") for line in progress.splitlines())
    assert answer.whole


@pytest.mark.parametrize(
    "kind", sorted(KINDS.keys() - {"endless", "html", "html-502", "evil-error"})
)
async def test_f16_the_dialect_that_reads_streams_stumbles_over_none(it: Yard, kind: str) -> None:
    answer = await got(it.http, asking("warm", bad_sse=kind), "status")
    assert answer.whole
    assert answer.code != "internal_error"
    assert answer.events[-1].data == "[DONE]" or answer.code is not None
    await it.well("warm")


@pytest.mark.parametrize(("kind", "status"), [("html", 200), ("html-502", 502)])
async def test_f16_a_page_is_passed_on_to_who_has_no_headers_yet(
    it: Yard, kind: str, status: int
) -> None:
    answer = await got(it.http, asking("warm", bad_sse=kind))
    assert (answer.status, answer.body) == (status, PAGE)
    assert answer.headers["content-type"] == "text/html"


@pytest.mark.parametrize(("kind", "status"), [("html", 200), ("html-502", 502)])
async def test_f16_a_page_is_an_error_to_who_was_promised_a_stream(
    it: Yard, kind: str, status: int
) -> None:
    answer = await got(it.http, asking("slow", bad_sse=kind), "events")
    assert ends_in(answer, "engine_error")
    assert answer.error is not None
    assert answer.error["engine_status"] == status


async def test_f16_others_do_not_notice(it: Yard) -> None:
    """All kinds at once, and in the midst of them clients whose answers are whole."""
    kinds = sorted(KINDS.keys() - {"endless"})
    whole: list[bool] = []

    async def badly(kind: str) -> None:
        await got(it.http, asking("warm", bad_sse=kind))

    async def well() -> None:
        answer = await got(it.http, asking("warm"))
        whole.append(answer.whole and answer.events[-1].data == "[DONE]")

    async with anyio.create_task_group() as group:
        for kind in kinds:
            group.start_soon(badly, kind)
            group.start_soon(well)
    assert whole == [True] * len(kinds)
    await it.idle("warm")
