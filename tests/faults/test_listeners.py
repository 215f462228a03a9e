"""F60: nothing of ours listens but where it is declared to, and engines on loopback only."""

from pathlib import Path

import psutil

from tests.e2e.pair import ask, chat, embedded, make_model, pair
from tests.faults.streams import engine
from tests.harness import children_of

Listener = tuple[str, int]


def listening(pid: int) -> set[Listener]:
    """Of any kind but Unix's: what can be reached from outside, UDP too."""
    every = psutil.Process(pid).net_connections("inet")
    takes = (psutil.CONN_LISTEN, psutil.CONN_NONE)
    return {(c.laddr.ip, c.laddr.port) for c in every if c.status in takes and c.laddr}


def unix_listening(pids: set[int]) -> list[str]:
    """With a name, by which others could reach them."""
    return [c.laddr for pid in pids for c in psutil.Process(pid).net_connections("unix") if c.laddr]


async def test_f60_only_what_is_declared_listens_and_engines_on_loopback_alone(
    tmp_path: Path,
) -> None:
    models = engine(tmp_path, "fake") + embedded("real", make_model(tmp_path, "demo-small"))
    async with pair(tmp_path, models.replace("700MiB", "300MiB")) as both:
        for model in ("fake", "real"):
            assert (await ask(both.http, chat(model))).chunks
        router, sidecar = both.router.program.pid, both.sidecar.program.pid
        assert listening(router) == {("127.0.0.1", both.http.base_url.port)}
        assert listening(sidecar) == {("127.0.0.1", int(both.sidecar.url.rpartition(":")[2]))}
        below = {child.pid for child in (*children_of(router), *children_of(sidecar))}
        engines = [listening(pid) for pid in below if listening(pid)]
        assert len(engines) == 2
        for found in engines:
            ((address, _),) = found
            assert address == "127.0.0.1"
        assert unix_listening({router, sidecar, *below}) == []
