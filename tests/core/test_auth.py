from __future__ import annotations

from hashlib import sha256

import pytest

from shared.auth import Caller, Key, Need, Scope, admit, known
from shared.errors import Forbidden, SwapyardError, Unauthorized

SCOPES: tuple[Scope, ...] = ("inference", "read", "admin")


def key(name: str, *scopes: Scope) -> Key:
    digest = sha256(f"sk-{name}".encode()).hexdigest()
    return Key.model_validate({"name": name, "sha256": digest, "scopes": scopes})


KEYS = (key("asks", "inference"), key("reads", "read"), key("runs", "read", "admin"))
BEARER = (b"authorization", b"Bearer sk-reads")


def come(*headers: tuple[bytes, bytes], needs: tuple[Need, ...] = ("read",)) -> Caller:
    return admit(known(KEYS), headers, needs)


def refused(*headers: tuple[bytes, bytes], needs: tuple[Need, ...] = ("read",)) -> SwapyardError:
    with pytest.raises((Unauthorized, Forbidden)) as caught:
        come(*headers, needs=needs)
    error: SwapyardError = caught.value
    assert not error.retry
    assert b"sk-" not in error.body()
    return error


# Whose key it is.


@pytest.mark.parametrize(
    "header",
    [
        BEARER,
        (b"authorization", b"bearer  sk-reads "),
        (b"x-api-key", b"sk-reads"),
        (b"api-key", b" sk-reads"),
    ],
)
def test_a_key_is_found_wherever_clients_put_it(header: tuple[bytes, bytes]) -> None:
    assert come((b"host", b"a"), header).name == "reads"


def test_one_key_may_be_shown_twice_and_two_may_not() -> None:
    assert come(BEARER, (b"x-api-key", b"sk-reads")).name == "reads"
    for second in ((b"x-api-key", b"sk-runs"), (b"authorization", b"Bearer no")):
        error = refused(BEARER, second)
        assert (error.status, error.code) == (401, "unauthorized")
        assert "two different keys" in error.message


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Basic sk-reads")],
        [(b"authorization", b"sk-reads")],
        [(b"x-api-key", b"")],
        [(b"cookie", b"key=sk-reads")],
    ],
)
def test_who_shows_no_key_is_told_how_to(headers: list[tuple[bytes, bytes]]) -> None:
    error = refused(*headers)
    assert error.status == 401
    assert "`Authorization: Bearer KEY` or `x-api-key: KEY`" in error.message


def test_the_password_for_a_proxy_is_no_second_key() -> None:
    assert come((b"authorization", b"Basic bWU6aHVudGVyMg=="), (b"x-api-key", b"sk-reads"))


@pytest.mark.parametrize("wrong", [b"sk-read", b"sk-readsx", b"SK-READS", b"\xff", b"x" * 9999])
def test_a_key_that_nobody_knows_is_not_repeated(wrong: bytes) -> None:
    error = refused((b"authorization", b"Bearer " + wrong))
    assert (error.status, error.code) == (401, "unauthorized")
    assert error.message.startswith("This key is not known here")


def test_the_digest_of_a_key_is_no_key() -> None:
    assert refused((b"x-api-key", KEYS[1].sha256.hex().encode())).status == 401


def test_what_is_wrong_is_told_to_programs_as_well() -> None:
    assert refused().headers()["www-authenticate"] == "Bearer"
    headers = refused(BEARER, needs=("admin",)).headers()
    assert headers["www-authenticate"] == 'Bearer error="insufficient_scope"'
    assert headers["x-should-retry"] == "false"


# What it may do.


@pytest.mark.parametrize("need", SCOPES)
@pytest.mark.parametrize("shown", KEYS, ids=[key.name for key in KEYS])
def test_a_key_may_do_what_its_scopes_say_and_nothing_else(shown: Key, need: Scope) -> None:
    header = (b"x-api-key", f"sk-{shown.name}".encode())
    if need in shown.scopes:
        caller = come(header, needs=(need,))
        assert (caller.name, [s for s in SCOPES if caller.may(s)]) == (
            shown.name,
            list(shown.scopes),
        )
    else:
        error = refused(header, needs=(need,))
        assert (error.status, error.code) == (403, "forbidden")
        assert error.message == (
            f"The key {shown.name!r} may not do this: use one with the scope {need}."
        )


def test_one_of_several_scopes_is_enough() -> None:
    for name in ("asks", "reads"):
        header = (b"x-api-key", f"sk-{name}".encode())
        assert come(header, needs=("inference", "read")).name == name
    assert "scope inference or admin." in refused(BEARER, needs=("inference", "admin")).message


def test_what_is_for_everyone_asks_for_no_key_and_trusts_nobody() -> None:
    for headers in ([], [(b"x-api-key", b"wrong")], [BEARER]):
        caller = come(*headers, needs=("everyone",))
        assert (caller.name, [s for s in SCOPES if caller.may(s)]) == (None, [])


def test_where_no_keys_are_set_everything_is_allowed_with_any_key_or_none() -> None:
    for headers in ([], [(b"x-api-key", b"any"), (b"api-key", b"other")]):
        caller = admit((), headers, ("admin",))
        assert (caller.name, [s for s in SCOPES if caller.may(s)]) == (None, list(SCOPES))


def test_what_says_nothing_of_scopes_lets_nobody_in() -> None:
    assert refused((b"x-api-key", b"sk-runs"), needs=()).status == 403
    with pytest.raises(Forbidden):
        admit((), [], ())
