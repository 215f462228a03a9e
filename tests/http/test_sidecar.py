"""The sidecar's contract: status and events, demand, what operators ask by hand, and the probes."""

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shared.status import Catalogue, Status
from tests.harness import Frame, frames, until
from tests.http.boxes import Box, Json, box, echo

MODELS = {
    "a": echo(served_name="served-a", context_length=4096, slots=2),
    "b": echo(),
    "Qwen/Qwen3-8B": echo(),
    "huge": echo(vram="900TiB"),
}
READY = "ready"


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Box]:
    async with box(tmp_path_factory.mktemp("sidecar"), MODELS) as it:
        yield it


@pytest.fixture
async def it(shared: Box) -> AsyncIterator[Box]:
    """The shared sidecar, given back with nothing loaded and nothing wanted."""
    yield shared
    for name in MODELS:
        assert (await shared.http.post(f"/models/{name}/unload")).status_code == 202
    for name in MODELS:
        await shared.until(name, "idle")


@asynccontextmanager
async def events(it: Box) -> AsyncIterator[AsyncIterator[Frame]]:
    async with it.http.stream("GET", "/models/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        yield frames(response)


def demand(seq: int, waiting: dict[str, int], ttl: float = 3.0) -> Json:
    models = {m: {"waiting": {"0": n}, "oldest_s": 0.1, "sent": 0} for m, n in waiting.items()}
    return {"v": 1, "seq": seq, "ttl_s": ttl, "models": models}


async def put(it: Box, router: str, said: Json) -> int:
    return (await it.http.put(f"/demand/{router}", json=said)).status_code


def error_of(response: httpx.Response) -> Json:
    """In OpenAI's shape, with the header that its clients obey."""
    assert response.headers["x-should-retry"] in ("true", "false")
    error = dict(response.json()["error"])
    assert {"message", "type", "code", "param"} <= error.keys()
    return error


# Status and events.


async def test_the_status_is_a_whole_status(it: Box) -> None:
    status = Status.from_json((await it.http.get("/models/status")).content)
    assert (status.v, status.box, status.phase) == (1, "box1", "idle")
    assert [m.id for m in status.models] == list(MODELS)
    assert {row.kind for row in status.memory} >= {"host"}
    assert abs(status.at - time.time()) < 60


async def test_a_watcher_hears_a_whole_status_at_once_and_at_each_change(it: Box) -> None:
    async with events(it) as heard:
        first = await anext(heard)
        before = Status.from_json(first.data)
        assert first.event == "status"
        await it.http.post("/models/a/load")
        phases: list[str] = []
        seqs = [before.seq]
        async for frame in heard:
            status = Status.from_json(frame.data)
            assert (status.boot, len(status.models)) == (before.boot, len(MODELS))
            seqs.append(status.seq)
            phase = next(model.phase for model in status.models if model.id == "a")
            phases += [phase] if phase not in phases else []
            if phase == READY:
                break
    assert seqs == sorted(set(seqs))
    assert [p for p in phases if p != "idle"] == ["starting", "ready"]


async def test_the_id_of_an_event_is_boot_and_seq(it: Box) -> None:
    async with it.http.stream("GET", "/models/events") as response:
        text = ""
        async for piece in response.aiter_text():
            text += piece
            if "\n\n" in text:
                break
    fields = dict(line.split(": ", 1) for line in text.split("\n\n")[0].split("\n"))
    status = json.loads(fields["data"])
    assert fields["id"] == f"{status['boot']}:{status['seq']}"


async def test_a_switch_is_one_story_from_drain_to_readiness(it: Box) -> None:
    await it.load("a")
    async with events(it) as heard:
        await it.http.post("/models/switch", json={"model": "b"})
        stories: list[Json] = []
        async for frame in heard:
            status = json.loads(frame.data)
            stories += status["switches"]
            if any(m["id"] == "b" and m["phase"] == READY for m in status["models"]):
                break
    assert {(s["to"], tuple(s["from"])) for s in stories} == {("b", ("a",))}
    assert len({s["id"] for s in stories}) == 1
    assert (await it.of("a"))["phase"] == "idle"


async def test_a_heartbeat_comes_at_least_every_two_seconds(it: Box) -> None:
    """Without changes; memory is looked at once a second, so an event may take its place."""
    async with it.http.stream("GET", "/models/events") as response:
        heard = []
        async for chunk in response.aiter_raw():
            heard.append((time.monotonic(), chunk))
            if chunk.startswith(b":"):
                break
    gaps = [after - before for (before, _), (after, _) in pairwise(heard)]
    assert max(gaps) < 2.2
    assert heard[-1][0] - heard[0][0] < 2.2


async def test_a_slow_watcher_gets_the_newest_and_never_a_backlog(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    many = {f"model-{n}": echo() for n in range(300)}  # a Status of 90 KB
    async with box(tmp_path, many) as it:
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.setblocking(False)
            await loop.sock_connect(slow, (it.http.base_url.host, it.http.base_url.port))
            await loop.sock_sendall(slow, b"GET /models/events HTTP/1.1\r\nHost: box\r\n\r\n")
            for _ in range(10):
                await asyncio.gather(*(glance(it) for _ in range(10)))
            newest = (await it.status())["seq"]
            got = b""
            while max(seqs(got), default=0) < newest:  # it may be told a newer one instead
                got += await asyncio.wait_for(loop.sock_recv(slow, 2**20), 5)
    assert got.count(b"event: status") < 90  # those that the kernel's buffers took, and the newest


def seqs(stream: bytes) -> list[int]:
    """Of the Statuses whose id was read."""
    return [int(seq) for seq in re.findall(rb"^id: \w+:(\d+)$", stream, re.MULTILINE)]


async def glance(it: Box) -> None:
    """A new watcher makes a new Status."""
    async with events(it) as heard:
        await anext(heard)


# Demand.


async def test_demand_loads_a_model_and_its_end_keeps_it(it: Box) -> None:
    assert await put(it, "r-loads", demand(1, {"a": 2})) == 204
    assert (await it.until("a", READY))["waiting"] == 2
    assert await put(it, "r-loads", demand(2, {})) == 204

    async def nobody_waits() -> bool:
        return bool((await it.of("a"))["waiting"] == 0)

    await until(nobody_waits)
    assert (await it.of("a"))["phase"] == READY


async def test_a_lower_seq_is_ignored(it: Box) -> None:
    assert await put(it, "r-seq", demand(5, {})) == 204
    assert await put(it, "r-seq", demand(4, {"a": 1})) == 204
    assert (await it.of("a"))["phase"] == "idle"


async def test_demand_adds_up_over_routers_and_expires(it: Box) -> None:
    await put(it, "r-one", demand(1, {"a": 1}, ttl=0.3))
    await put(it, "r-two", demand(1, {"a": 2}, ttl=0.3))

    async def seen(waiting: int, routers: int) -> bool:
        now = await it.of("a")
        return (now["waiting"], now["routers"]) == (waiting, routers)

    await until(lambda: seen(3, 2))
    await until(lambda: seen(0, 0))


async def test_models_that_are_not_here_are_ignored_in_demand(it: Box) -> None:
    assert await put(it, "r-unknown", demand(1, {"nobody/knows": 1, "a": 1})) == 204
    await it.until("a", READY)
    await put(it, "r-unknown", demand(2, {}))


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"not json",
        b"[]",
        b'{"v": 1}',
        b'{"v": 1, "seq": 1, "ttl_s": -1, "models": {}}',
        b'{"v": 1, "seq": 1, "ttl_s": 1e9, "models": {}}',
        b'{"v": 1, "seq": 1, "ttl_s": 3, "models": {"a": {"waiting": {"0": -1}}}}',
        b'{"v": 1, "seq": 1, "ttl_s": 3, "models": {"a": {"waiting": {"x": 1}}}}',
        b'{"v": 1, "seq": 1, "ttl_s": 3, "models": {"a": {"oldest_s": NaN}}}',
    ],
)
async def test_nonsense_is_no_demand(it: Box, nonsense: bytes) -> None:
    response = await it.http.put("/demand/r", content=nonsense)
    assert response.status_code == 400
    assert error_of(response)["code"] == "invalid_request"


async def test_a_message_of_the_control_plane_is_small(it: Box) -> None:
    response = await it.http.put("/demand/r", content=b" " * (2**20 + 1))
    assert (response.status_code, error_of(response)["code"]) == (413, "too_large")


# By hand.


async def test_load_and_unload_answer_with_the_status_that_they_caused(it: Box) -> None:
    loading = await it.http.post("/models/a/load")
    assert loading.status_code == 202
    assert Status.from_json(loading.content).phase == "starting"
    await it.until("a", READY)
    unloading = await it.http.post("/models/a/unload")
    assert unloading.status_code == 202
    assert Status.from_json(unloading.content).phase == "stopping"


async def test_an_id_with_a_slash_works_everywhere(it: Box) -> None:
    name = "Qwen/Qwen3-8B"
    await it.load(name)
    served = await it.ask(name)
    assert served.json()["target"] == "/v1/chat/completions"
    encoded = await it.http.post("/engines/Qwen%2FQwen3-8B/v1/x", json={})
    assert encoded.json()["target"] == "/v1/x"
    assert (await it.http.get(f"/models/{name}/logs")).status_code == 200
    switched = await it.http.post("/models/switch", json={"model": name})
    assert switched.status_code == 202
    await it.unload(name)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/models/nobody/load"),
        ("POST", "/models/nobody/unload"),
        ("POST", "/models/switch"),
        ("GET", "/models/nobody/logs"),
    ],
)
async def test_an_unknown_model_is_404_and_told_what_there_is(
    it: Box, method: str, path: str
) -> None:
    response = await it.http.request(method, path, json={"model": "nobody"})
    assert response.status_code == 404
    error = error_of(response)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert all(name in error["message"] for name in ("nobody", *MODELS))


@pytest.mark.parametrize("path", ["/models/huge/load", "/models/switch"])
async def test_what_can_never_fit_is_409_with_the_sum(it: Box, path: str) -> None:
    response = await it.http.post(path, json={"model": "huge"})
    assert response.status_code == 409
    error = error_of(response)
    assert error["code"] == "does_not_fit"
    assert "921600.0 GiB" in error["message"]
    assert "0.1 GiB" in error["message"]
    assert "x-swapyard-refused" not in response.headers


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"{", "invalid_json"), (b"[]", "model_required"), (b'{"model": 3}', "model_required")],
)
async def test_a_switch_needs_a_model(it: Box, body: bytes, code: str) -> None:
    response = await it.http.post("/models/switch", content=body)
    assert (response.status_code, error_of(response)["code"]) == (400, code)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/models/a/load", 405), ("GET", "/nowhere", 404), ("POST", "/models/status", 405)],
)
async def test_what_is_not_there_is_told_in_openais_shape(
    it: Box, method: str, path: str, status: int
) -> None:
    response = await it.http.request(method, path)
    assert response.status_code == status
    assert error_of(response)["type"] == "invalid_request_error"


# As they say.


async def test_the_catalogue_tells_what_does_not_change(it: Box) -> None:
    catalogue = Catalogue.from_json((await it.http.get("/models")).content)
    status = await it.status()
    assert (catalogue.box, catalogue.boot) == ("box1", status["boot"])
    a = catalogue.models[0]
    assert (a.id, a.engine, a.served_name) == ("a", "command", "served-a")
    assert (a.context_length, a.slots) == (4096, 2)
    assert catalogue.models[1].slots == 16


async def test_logs_are_there_while_an_engine_runs_and_after_its_end(it: Box) -> None:
    assert (await it.http.get("/models/huge/logs")).text == ""
    await it.load("b")
    shown = await it.http.get("/models/b/logs")
    assert shown.headers["content-type"].startswith("text/plain")
    assert shown.text == "echo: up\n"
    await it.unload("b")
    assert (await it.http.get("/models/b/logs")).text == "echo: up\n"


async def test_gpus_are_a_list(it: Box) -> None:
    rows = (await it.http.get("/gpus")).json()
    assert all(row["kind"] == "gpu" for row in rows)


async def test_metrics_are_the_newest_status_in_prometheus_words(it: Box) -> None:
    await it.load("a")
    response = await it.http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    families = {f.name: f for f in text_string_to_metric_families(response.text)}
    of_a = [s for s in families["swapyard_phase"].samples if s.labels["model"] == "a"]
    assert {s.labels["phase"] for s in of_a if s.value == 1} == {"ready"}
    assert len(of_a) == 5
    assert families["swapyard_build_info"].samples[0].value == 1
    reserved = families["swapyard_memory_reserved_bytes"].samples
    assert {s.labels["device"]: s.value for s in reserved}["host"] == 2**20
    assert {"swapyard_in_flight", "swapyard_waiting"} <= families.keys()


async def test_probes_say_yes_with_nothing_loaded(it: Box) -> None:
    for path in ("/healthz", "/readyz"):
        assert (await it.http.get(path)).text == "ok\n"
