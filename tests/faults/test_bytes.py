"""F17 to F19: events of any size, bytes of any kind cut anywhere, and answers in a coding that
nobody asked for. What goes through is never kept, and never changed.
"""

import gzip
import json
from collections.abc import AsyncIterator
from hashlib import sha256

import httpx
import pytest

from shared.sse import MAX_EVENT
from tests.fakes.misbehaviour import CORPUS, DONE, TOKENS, Manner, body_of
from tests.faults.streams import CHAT, ChaosYard, Yard, asking, engine, got, yard, yard_over_chaos
from tests.harness import Program, until

ENGINES = {"warm": (), "slow": ("--first-token-seconds", "0.2")}
MIB = 2**20
FLAT = 6 * MIB  # by which a program may grow: 256 KiB for the stream, and what an allocator does


@pytest.fixture(scope="module")
async def it(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Yard]:
    folder = tmp_path_factory.mktemp("bytes")
    models = "".join(engine(folder, id, *switches) for id, switches in ENGINES.items())
    async with yard(folder, models, *ENGINES) as it:
        await digest(it.http, asking("warm", line_bytes=4 * MIB))  # what grows once has grown
        yield it


@pytest.fixture(scope="module")
async def chaos(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ChaosYard]:
    folder = tmp_path_factory.mktemp("chaos")
    async with yard_over_chaos(folder, engine(folder, "warm"), "warm") as it:
        yield it


@pytest.fixture
def memory(it: Yard) -> "list[Peak]":
    return [Peak(it.pair.router.program), Peak(it.pair.sidecar.program)]


class Peak:
    """How far a program's memory has grown since, at its highest."""

    def __init__(self, program: Program) -> None:
        self._folder = f"/proc/{program.pid}"
        with open(f"{self._folder}/clear_refs", "w") as refs:
            refs.write("5")  # the highest is from now on
        self._before = self._of("VmRSS")

    def growth(self) -> int:
        return self._of("VmHWM") - self._before

    def _of(self, name: str) -> int:
        with open(f"{self._folder}/status") as status:
            line = next(line for line in status if line.startswith(name))
        return int(line.split()[1]) * 1024


# F17: a giant event.


async def digest(http: httpx.AsyncClient, body: dict[str, object]) -> tuple[int, str, bytes]:
    """Length, hash and last bytes of an answer that is too long to keep."""
    hashed, length, last = sha256(), 0, b""
    headers = {"x-swapyard-progress": "off"}
    async with http.stream("POST", CHAT, json=body, headers=headers) as response:
        async for chunk in response.aiter_raw():
            hashed.update(chunk)
            length += len(chunk)
            last = (last + chunk)[-1000:]
    return length, hashed.hexdigest(), last


@pytest.mark.parametrize("size", [8 * MIB, MAX_EVENT])
async def test_f17_an_event_of_up_to_16_mib_passes_and_is_never_kept(
    it: Yard, memory: list[Peak], size: int
) -> None:
    length, hashed, _ = await digest(it.http, asking("warm", line_bytes=size))
    assert length == size + len(DONE)
    assert hashed == sha256(body_of(Manner(line_bytes=size))).hexdigest()
    for peak in memory:
        assert peak.growth() < FLAT


@pytest.mark.parametrize("size", [MAX_EVENT + 1, 64 * MIB])
async def test_f17_a_larger_event_ends_the_stream_with_an_error(
    it: Yard, memory: list[Peak], size: int
) -> None:
    length, _, last = await digest(it.http, asking("warm", line_bytes=size))
    assert length < MAX_EVENT + MIB
    event = last.rpartition(b"\n\ndata: ")[2]
    assert json.loads(event)["error"]["code"] == "event_too_large"
    for peak in memory:
        assert peak.growth() < FLAT
    await it.idle("warm")


async def test_f17_many_events_that_are_more_together_pass(it: Yard, memory: list[Peak]) -> None:
    """More than 16 MiB without an event of more."""
    headers = {"x-swapyard-progress": "off"}
    body, length = asking("warm", bad_sse="endless"), 0
    async with it.http.stream("POST", CHAT, json=body, headers=headers) as response:
        async for chunk in response.aiter_raw():
            length += len(chunk)
            if length > 2 * MAX_EVENT:
                break
    await it.idle("warm")
    for peak in memory:
        assert peak.growth() < FLAT


# F18: odd characters, cut anywhere.


@pytest.mark.parametrize("framing", ["chunked", "length"])
async def test_f18_a_body_that_is_cut_at_any_byte_is_the_same(it: Yard, framing: str) -> None:
    """As many times the same, the first one cut at its first byte, the second at its second."""
    size = len(CORPUS)
    cuts = [at * size + at for at in range(1, size)]
    answer = await got(it.http, asking("warm", bad_sse="corpora", cuts=cuts, framing=framing))
    assert (answer.body, answer.whole) == (CORPUS * size, True)


@pytest.mark.parametrize("framing", ["chunked", "length"])
async def test_f18_a_body_whose_every_byte_comes_alone_is_the_same(it: Yard, framing: str) -> None:
    alone = [*range(1, len(CORPUS))]
    for manner in ({"cuts": alone}, {"trickle": True}, {"cuts": alone, "trickle": True}):
        answer = await got(it.http, asking("warm", bad_sse="corpus", framing=framing, **manner))
        assert (answer.body, answer.whole) == (CORPUS, True)


async def test_f18_a_body_that_is_cut_after_progress_is_the_same(it: Yard) -> None:
    body = asking("slow", bad_sse="corpus", cuts=[*range(1, len(CORPUS))])
    answer = await got(it.http, body, "comments")
    progress, _, after = answer.body.partition(CORPUS)
    assert progress.startswith(b": ")
    assert (after, answer.whole) == (b"", True)


@pytest.mark.parametrize("where", ["inside", "outside"])
async def test_f18_connections_that_deliver_byte_by_byte_change_nothing(
    chaos: ChaosYard, where: str
) -> None:
    """The request too: its head, its framing and its body arrive in pieces of one byte."""
    proxy = chaos.inside if where == "inside" else chaos.outside
    proxy.pieces = 1
    try:
        answer = await got(chaos.http, asking("warm", bad_sse="corpus"))
    finally:
        proxy.pieces = 0
    assert (answer.body, answer.whole) == (CORPUS, True)


async def test_f14_a_stream_whose_box_is_cut_off_ends_in_an_error(chaos: ChaosYard) -> None:
    """In mid-answer every connection between the router and the box is reset."""
    body = asking("warm", bad_sse="endless")
    headers = {"x-swapyard-progress": "off"}
    async with chaos.http.stream("POST", CHAT, json=body, headers=headers) as response:
        pieces = response.aiter_raw()
        last = await anext(pieces)
        chaos.inside.reset()
        async for piece in pieces:
            last = (last + piece)[-1000:]
    event = last.rpartition(b"\n\ndata: ")[2]
    assert json.loads(event)["error"]["code"] == "engine_died"
    await until(lambda: chaos.noted("warm", "gone"))
    await chaos.well("warm")


# F19: it compresses, though it was asked not to.


async def test_f19_engines_are_asked_for_plain_bytes_whatever_the_client_takes(it: Yard) -> None:
    await it.http.post(
        CHAT, json=asking("warm", stream=False), headers={"accept-encoding": "gzip, br, zstd"}
    )
    assert it.noted("warm", "request")[-1]["accepts"] == "identity"


async def test_f19_a_coded_answer_is_passed_on_as_it_is_and_says_so(it: Yard) -> None:
    answer = await got(it.http, asking("warm", gzip=True))
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(answer.body) == b"".join(TOKENS) + DONE
    assert answer.whole


async def test_f19_an_answer_that_only_says_that_it_is_coded_harms_nobody(it: Yard) -> None:
    answer = await got(it.http, asking("warm", bad_sse="wrong-coding"))
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.body == b"".join(TOKENS) + DONE
    await it.well("warm")


async def test_f19_a_bomb_is_never_inflated(it: Yard, memory: list[Peak]) -> None:
    answer = await got(it.http, asking("warm", line_bytes=64 * MIB, gzip=True))
    assert len(answer.body) < MIB
    assert len(gzip.decompress(answer.body)) == 64 * MIB + len(DONE)
    for peak in memory:
        assert peak.growth() < FLAT


@pytest.mark.parametrize("dialect", ["comments", "events", "status"])
@pytest.mark.parametrize("manner", [{"gzip": True}, {"bad_sse": "wrong-coding"}])
async def test_f19_a_coded_answer_is_an_error_in_a_stream_that_has_begun_plain(
    it: Yard, dialect: str, manner: dict[str, object]
) -> None:
    answer = await got(it.http, asking("slow", **manner), dialect)
    assert "content-encoding" not in answer.headers
    assert (answer.code, answer.whole) == ("engine_error", True)
    answer.body.decode()  # nothing of it is coded


async def test_f19_a_coded_stream_that_is_cut_off_is_broken_off(it: Yard) -> None:
    """An error among coded bytes would be read by nobody."""
    answer = await got(it.http, asking("warm", bad_sse="eof", gzip=True))
    assert answer.headers["content-encoding"] == "gzip"
    assert not answer.whole
