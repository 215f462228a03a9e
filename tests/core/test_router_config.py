from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from router.config import RouterConfig
from shared.auth import Caller
from shared.settings import Listen, Problems, read

BOX = 'sidecars: [{url: "http://127.0.0.1:8090"}]\n'


def parse(text: str, **env: str) -> RouterConfig:
    return read(RouterConfig, text, name="router.yaml", folder=PurePosixPath("/etc/y"), env=env)


def problems(text: str, **env: str) -> list[str]:
    with pytest.raises(Problems) as caught:
        parse(text, **env)
    return list(caught.value.lines)


def test_the_address_of_one_box_is_enough() -> None:
    config = parse(BOX)
    assert (config.listen, config.open) == (Listen("127.0.0.1", 8080), False)
    assert config.state_dir == Path("/etc/y/state")
    assert [(box.url, box.key) for box in config.sidecars] == [("http://127.0.0.1:8090", None)]
    assert (config.box_grace, config.max_body, config.models) == (15, 32 * 2**20, {})
    assert (config.progress.dialect, config.progress.interval) == ("events", 1)
    assert (config.queue.max_waiting, config.queue.max_wait) == (10_000, 600)
    assert config.queue.max_bytes == 256 * 2**20


def test_every_key_can_be_said() -> None:
    config = parse("""
listen: 0.0.0.0:80
open: true
state_dir: /var/lib/router
sidecars:
- {url: "https://box1.lan/", key: "${K}"}
- {url: "http://[::1]:1", key: "${NO:-}", optional: true}
box_grace: 1s
progress: {dialect: off, interval: 100ms}
models: {Qwen/Qwen3: {aliases: [q, q3], progress: {dialect: comments}, priority: -16}, b: {}}
queue: {max_waiting: 1, max_waiting_per_tenant: 1, max_wait: 2h, max_bytes: 1KB}
max_body: 1MiB
""", K="hunter2")  # fmt: skip
    assert [box.url for box in config.sidecars] == ["https://box1.lan", "http://[::1]:1"]
    key, none = (box.key for box in config.sidecars)
    assert key is not None
    assert key.get_secret_value() == "hunter2"
    assert none is None
    assert [box.optional for box in config.sidecars] == [False, True]
    assert "hunter2" not in repr(config)
    assert (config.progress.dialect, config.progress.interval) == ("off", 0.1)
    qwen, other = config.models["Qwen/Qwen3"], config.models["b"]
    assert (qwen.aliases, qwen.progress.dialect, qwen.priority) == (("q", "q3"), "comments", -16)
    assert (other.aliases, other.progress.dialect, other.priority) == ((), None, 0)
    assert (config.queue.max_waiting, config.queue.max_wait) == (1, 7200)


def test_a_router_without_boxes_is_refused() -> None:
    assert problems("") == ["router.yaml:1: sidecars: is required"]
    assert problems("sidecars: []") == ["router.yaml:1: sidecars: must not be empty"]


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8090",
        "ftp://a",
        "http://",
        "http://a/v1",
        "http://a?b",
        "http://a b",
        "http://a:65536",
        "http://me:hunter2@a",
        "http://[::1",
    ],
)
def test_a_box_is_named_by_the_base_of_its_url_alone(url: str) -> None:
    (line,) = problems(f'sidecars:\n- url: "{url}"')
    assert line.startswith("router.yaml:2: sidecars[0].url: must be http:// or https://, a host")
    assert "hunter2" not in line


@pytest.mark.parametrize("key", ["hunter 2", "hunter2\\n", "hünter2"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_repeated(key: str) -> None:
    assert problems(f'sidecars:\n- {{url: "http://a", key: "{key}"}}') == [
        "router.yaml:2: sidecars[0].key: must be one word of printable ASCII characters,"
        " as a header can hold"
    ]


def test_a_box_that_is_listed_twice_is_refused() -> None:
    assert problems("sidecars:\n- url: http://a\n- url: http://b\n- url: http://A/") == [
        "router.yaml:4: sidecars[2].url: http://a is listed twice"
    ]


@pytest.mark.parametrize("interval", ["99ms", "5.1s", "never"])
def test_a_silence_that_some_clients_would_not_survive_is_refused(interval: str) -> None:
    (line,) = problems(BOX + f"progress: {{interval: {interval}}}")
    assert line.startswith("router.yaml:2: progress.interval: must be between 100ms and 5s")


def test_an_alias_means_one_model_only() -> None:
    text = """\
models:
  a:
    aliases: [fast, a]
  b:
    aliases:
    - good
    - good
    - fast
    - a
"""
    assert problems(text + BOX) == [
        "router.yaml:3: models.a.aliases[1]: a is the name of a configured model",
        "router.yaml:7: models.b.aliases[1]: good is already an alias of b",
        "router.yaml:8: models.b.aliases[2]: fast is already an alias of a",
        "router.yaml:9: models.b.aliases[3]: a is the name of a configured model",
    ]


def test_an_alias_is_a_model_id() -> None:
    (line,) = problems(BOX + "models: {a: {aliases: [x/load]}}")
    assert line.startswith("router.yaml:2: models.a.aliases[0]: a model id is not status")
    assert line.endswith("(got 'x/load')")


def test_priorities_and_dialects_have_their_bounds() -> None:
    text = "models: {a: {priority: 17}, b: {priority: -17, progress: {dialect: loud}}}"
    assert problems(BOX + text) == [
        "router.yaml:2: models.a.priority: must be at most 16 (got 17)",
        "router.yaml:2: models.b.progress.dialect: must be one of events, reasoning,"
        " events+reasoning, status, comments, off"
        " (got 'loud')",
        "router.yaml:2: models.b.priority: must be at least -16 (got -17)",
    ]


def test_a_router_is_not_opened_to_others_by_accident() -> None:
    (line,) = problems(BOX + "listen: 0.0.0.0:80")
    assert line.startswith("router.yaml:2: listen: would let other machines in")
    key = f'{{name: laptop, sha256: "{"0" * 64}", scopes: [inference, read]}}'
    assert parse(BOX + f"listen: 0.0.0.0:80\nkeys: [{key}]").keys[0].name == "laptop"


def keys(*entries: str) -> str:
    """`name: further keys` each."""
    listed = [
        f"{{name: {name}, sha256: '{n:064}', scopes: [inference], {more}}}"
        for n, (name, _, more) in enumerate(entry.partition(": ") for entry in entries)
    ]
    return f"keys: [{', '.join(listed)}]\n"


def test_a_key_s_tenant_is_its_name_until_it_says_another() -> None:
    text = keys("laptop", "phone: tenant: me, priority: -2")
    callers = [key.caller() for key in parse(BOX + text).keys]
    assert [(c.name, c.tenant, c.priority) for c in callers] == [
        ("laptop", "laptop", 0),
        ("phone", "me", -2),
    ]
    assert callers[0].may("inference")


def test_a_tenant_has_a_name_and_a_priority_its_bounds() -> None:
    assert problems(BOX + keys("a: tenant: '', priority: 17")) == [
        "router.yaml:2: keys[0].tenant: must not be empty",
        "router.yaml:2: keys[0].priority: must be at most 16 (got 17)",
    ]


def test_the_priorities_of_key_and_model_add_up_within_the_bounds_of_each() -> None:
    config = parse(BOX + "models: {urgent: {priority: 10}, idle: {priority: -10}}")
    of = {n: Caller("k", frozenset(), priority=n) for n in (-9, 0, 3, 9)}
    assert config.priority("unknown", of[3]) == 3
    assert config.priority("urgent", of[0]) == 10
    assert config.priority("urgent", of[3]) == 13
    assert config.priority("urgent", of[9]) == 16
    assert config.priority("idle", of[-9]) == -16


def test_of_several_tenants_one_alone_may_fill_half_of_the_line() -> None:
    def limit(text: str) -> int | None:
        return parse(BOX + text).max_waiting_per_tenant()

    two = keys("a", "b")
    assert limit("") is None
    assert limit(keys("a: tenant: me", "b: tenant: me")) is None
    assert limit(two) == 5000
    assert limit(two + "queue: {max_waiting: 3}") == 2
    assert limit(two + "queue: {max_waiting_per_tenant: 7}") == 7
    assert limit(two + "queue: {max_waiting_per_tenant: null}") == 5000
    assert limit("queue: {max_waiting_per_tenant: 7}") == 7
    assert limit(keys("a", "watcher").replace("[inference], }]", "[read], }]")) is None
