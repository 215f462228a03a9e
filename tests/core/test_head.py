"""Which heads are taken: what the parser leaves to us. The whole matrix: tests/faults."""

import pytest

from shared.head import (
    HEAD,
    HEADERS,
    NAMES,
    URL,
    path_and_query,
    refusal,
    size_of,
    too_large,
    without_upgrade,
)

HOST = (b"host", b"a")


def status(
    *headers: tuple[bytes, bytes],
    method: bytes = b"GET",
    version: str = "1.1",
    target: bytes = b"/",
) -> int:
    """200: it is taken."""
    error = refusal(method, version, target, list(headers))
    return error.status if error else 200


@pytest.mark.parametrize(
    "host",
    [b"a", b"A.b-c_d~e:8080", b"127.0.0.1:", b"[::1]", b"[::ffff:1.2.3.4]:80", b"xn--bcher-kva.de"],
)
def test_a_host_is_a_name_or_an_address_and_a_port(host: bytes) -> None:
    assert status((b"host", host)) == 200


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"a/?",
        b"a b",
        b"b@a",
        b"a:b",
        b"a:123456",
        b"[a]",
        b"::1",
        b"a,b",
        b"a#",
        b"\xe9",
        b"a\\",
    ],
)
def test_what_is_no_host_is_refused(host: bytes) -> None:
    assert status((b"host", host)) == 400


def test_there_is_one_host_and_only_http_1_0_may_do_without() -> None:
    assert status() == 400
    assert status(HOST, HOST) == 400
    assert status(version="1.0") == 200
    assert status(HOST, HOST, version="1.0") == 400


def test_a_length_has_no_more_digits_than_a_number_of_64_bits() -> None:
    assert status(HOST, (b"content-length", b"4".zfill(20))) == 200
    assert status(HOST, (b"content-length", b"4".zfill(21))) == 400


def test_a_body_may_come_in_chunks_and_in_no_other_coding() -> None:
    assert status(HOST, (b"accept", b"*/*"), (b"transfer-encoding", b"Chunked")) == 200
    assert status(HOST, (b"transfer-encoding", b"gzip, chunked")) == 400
    assert status(HOST, (b"transfer-encoding", b"chunked"), version="1.0") == 400


@pytest.mark.parametrize("version", ["0.9", "2.0", "1.2"])
def test_only_http_1_is_spoken(version: str) -> None:
    assert status(HOST, version=version) == 400


@pytest.mark.parametrize("method", [b"CONNECT", b"TRACE"])
def test_methods_for_proxies_are_not_allowed(method: bytes) -> None:
    assert status(HOST, method=method) == 405


def test_a_target_is_a_path_or_names_the_same_host() -> None:
    assert status(HOST, target=b"http://A/x") == 200
    assert status(HOST, target=b"https://a") == 200
    assert status(HOST, target=b"http://b/x") == 400
    assert status(target=b"http://a/x", version="1.0") == 400
    assert status(HOST, target=b"a:443") == 400
    assert status(HOST, target=b"/x#y") == 400
    assert status(HOST, target=b"*", method=b"OPTIONS") == 405


@pytest.mark.parametrize(
    ("target", "found"),
    [
        (b"/", (b"/", b"")),
        (b"/a%2Fb?c=d?e", (b"/a%2Fb", b"c=d?e")),
        (b"//a/b", (b"//a/b", b"")),
        (b"http://a", (b"/", b"")),
        (b"http://a?b", (b"/", b"b")),
        (b"HTTP://a:80/b?c", (b"/b", b"c")),
    ],
)
def test_a_target_leads_to_a_path_and_a_query(target: bytes, found: tuple[bytes, bytes]) -> None:
    assert path_and_query(target) == found


def test_a_head_has_its_limits_also_while_it_is_not_whole() -> None:
    assert too_large(URL, HEADERS, HEAD) is None
    for sizes, expected in (
        ((URL + 1, 0, 0), 414),
        ((0, HEADERS + 1, 0), 431),
        ((0, 0, HEAD + 1), 431),
    ):
        error = too_large(*sizes)
        assert error is not None
        assert error.status == expected
    assert status(HOST, (b"x", b"x" * HEAD)) == 431
    assert size_of(b"/ab", [HOST, (b"x", b"")]) == 3 + 9 + 5


def test_names_are_told_in_small_letters() -> None:
    assert NAMES[b"Content-Type"] == NAMES[b"content-type"] == b"content-type"
    assert all(spelt.lower() == name for spelt, name in NAMES.items())


def test_an_offer_to_upgrade_is_taken_out_of_a_head() -> None:
    offer = [(b"connection", b"Upgrade"), (b"upgrade", b"h2c")]
    said = without_upgrade(b"POST", "1.1", b"/x", [HOST, *offer, (b"content-length", b"1")])
    assert said == (
        b"POST /x HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\ncontent-length: 1\r\n\r\n"
    )
