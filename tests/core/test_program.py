from __future__ import annotations

from hashlib import sha256
from pathlib import Path, PurePosixPath

import pytest

from shared.program import Program
from shared.settings import Listen, Problems, read

SECRET = "sk-hunter2"
DIGEST = sha256(SECRET.encode()).hexdigest()
OTHER = sha256(b"sk-other").hexdigest()


class Served(Program):
    listen: Listen = Listen("127.0.0.1", 1)


def parse(text: str, **env: str) -> Served:
    return read(Served, text, name="a", folder=PurePosixPath("/etc/yard"), env=env)


def problems(text: str, **env: str) -> list[str]:
    with pytest.raises(Problems) as caught:
        parse(text, **env)
    return list(caught.value.lines)


def problem(text: str, **env: str) -> str:
    (line,) = problems(text, **env)
    return line


def key(name: str = "laptop", digest: str = DIGEST, scopes: str = "[inference]") -> str:
    return f'{{name: {name}, sha256: "{digest}", scopes: {scopes}}}'


def test_a_program_listens_keeps_its_state_beside_its_config_and_knows_no_keys() -> None:
    told = parse("")
    assert (told.listen, told.open, told.keys) == (Listen("127.0.0.1", 1), False, ())
    assert told.state_dir == Path("/etc/yard/state")
    assert Served(listen=Listen("::1", 2)).listen == Listen("::1", 2)


# Who may come.


def test_a_key_is_its_name_its_digest_and_its_scopes() -> None:
    laptop, monitor = parse(
        f"keys: [{key(digest=DIGEST.upper())}, {key('m', OTHER, '[read, admin]')}]"
    ).keys
    assert (laptop.name, laptop.sha256.hex(), laptop.scopes) == ("laptop", DIGEST, ("inference",))
    assert (monitor.name, monitor.scopes) == ("m", ("read", "admin"))
    assert DIGEST not in repr(laptop)


def test_a_digest_may_come_from_the_environment() -> None:
    text = f"keys: [{key(digest='${CLIENT_KEY_SHA256}')}]"
    assert parse(text, CLIENT_KEY_SHA256=DIGEST).keys[0].sha256.hex() == DIGEST
    assert problem(text) == (
        "a:1: keys[0].sha256: the environment variable CLIENT_KEY_SHA256 is not set,"
        " and ${CLIENT_KEY_SHA256} has no default"
    )
    empty = "a:1: keys[0].sha256: must not be empty: it is the SHA-256 of the key, 64 hex digits"
    assert problem(text, CLIENT_KEY_SHA256="") == empty
    assert problem(f"keys: [{key(digest='${UNSET:-}')}]") == empty


@pytest.mark.parametrize("wrong", [SECRET, DIGEST[:-1], f"{DIGEST}0", f"{DIGEST} -", "g" * 64])
def test_what_is_no_digest_is_refused_and_not_repeated(wrong: str) -> None:
    assert problem(f"keys: [{key(digest=wrong)}]") == (
        "a:1: keys[0].sha256: must be 64 hex digits: the SHA-256 of the key, not the key itself"
    )


def test_the_digest_of_an_empty_key_is_refused() -> None:
    """As `printf %s "$KEY" | sha256sum` makes it where KEY is not set."""
    said = problem(f"keys: [{key(digest=sha256(b'').hexdigest())}]")
    assert said.startswith("a:1: keys[0].sha256: is the SHA-256 of nothing")


@pytest.mark.parametrize(
    "text",
    [
        f"keys: {SECRET}",
        f"keys: [{SECRET}]",
        f"keys: [{{name: a, sha256: [{SECRET}], scopes: [read]}}]",
        f"keys: [{{name: a, sha256: !{SECRET[3:]} {SECRET}, scopes: [read]}}]",
        f"keys: [{{name: a, key: {SECRET}, sha256: '{DIGEST}', scopes: [read]}}]",
    ],
)
def test_a_key_that_stands_where_it_should_not_is_never_repeated(text: str) -> None:
    assert SECRET not in problem(text)


def test_a_key_that_is_not_whole_is_told_where_it_stands() -> None:
    text = f"""\
keys:
- name: ''
  sha256: '{DIGEST}'
  scopes: []
- scopes: [inferense]
"""
    assert problems(text) == [
        "a:2: keys[0].name: must not be empty",
        "a:4: keys[0].scopes: must not be empty",
        "a:5: keys[1].name: is required",
        "a:5: keys[1].sha256: is required",
        "a:5: keys[1].scopes[0]: must be one of inference, read, admin (got 'inferense')",
    ]


def test_each_key_has_a_name_and_a_digest_of_its_own() -> None:
    text = f"keys:\n- {key('a')}\n- {key('a', OTHER)}\n- {key('b', DIGEST.upper())}"
    assert problems(text) == [
        "a:3: keys[1].name: a is listed twice",
        "a:4: keys[2].sha256: is the key of a already",
    ]


# From where.


def test_an_address_beyond_loopback_needs_keys_or_a_word_from_the_operator() -> None:
    beyond = "listen: '0.0.0.0:1'"
    assert parse(f"{{{beyond}, open: true}}").listen == Listen("0.0.0.0", 1)
    assert parse(f"{{{beyond}, keys: [{key()}]}}").listen == Listen("0.0.0.0", 1)
    assert problem(f"\n{beyond}").startswith("a:2: listen: would let other machines in")
    assert "`keys`" in problem(f"{{{beyond}, keys: []}}")


@pytest.mark.parametrize("wrong", ["open: maybe", "keys: [{}]", f"keys: [{key()}, {key()}]"])
def test_what_lets_others_in_is_judged_once_it_can_be_read(wrong: str) -> None:
    said = problems(f"{{listen: '0.0.0.0:1', {wrong}}}")
    assert not [line for line in said if "listen" in line.split(": ")[1]]


@pytest.mark.parametrize(
    ("text", "everyone"),
    [
        ("", False),
        ("open: true", False),
        ("{listen: '0.0.0.0:1', open: true}", True),
        (f"{{listen: '0.0.0.0:1', open: true, keys: [{key()}]}}", False),
    ],
)
def test_a_program_knows_whether_it_lets_everyone_in(text: str, everyone: bool) -> None:
    assert parse(text).lets_everyone_in is everyone
