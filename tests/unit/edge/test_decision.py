"""What is answered: the decision as a table."""

from dataclasses import replace
from typing import Any

import pytest

from holdfast.edge import default_key
from holdfast.edge.decision import Bypass, Decision, Fresh, Miss, StaleRevalidate, decide
from holdfast.edge.entry import Entry, VaryMiss
from holdfast.edge.request import fold, read_request, selecting
from tests.unit.edge.driver import make_scope

ENTRY = Entry(status=200, headers=[], body=b"", stored_at=100.0, initial_age=5.0, fresh_for=60.0, stale_for=30.0)
SILENT = replace(ENTRY, for_cookies=False)
MARKED = replace(ENTRY, for_authorization=True)
BY_LANGUAGE = replace(ENTRY, vary=(b"accept-language",))


@pytest.mark.parametrize(
    ("found", "now", "expected"),
    [
        (None, 100, Miss("uri-miss")),
        (VaryMiss((b"accept",)), 100, Miss("vary-miss", (b"accept",))),
        (ENTRY, 100, Fresh(ENTRY, 5)),
        (ENTRY, 154.9, Fresh(ENTRY, 59.900000000000006)),
        # RFC 9111, 4.2: fresh while the lifetime is greater than the age, not equal to it.
        (ENTRY, 155, StaleRevalidate(ENTRY, 60)),
        (ENTRY, 184, StaleRevalidate(ENTRY, 89)),
        (ENTRY, 185, Miss("stale")),
        (BY_LANGUAGE, 999, Miss("stale", (b"accept-language",))),
    ],
)
def test_a_plain_get(found: Any, now: float, expected: Decision) -> None:
    assert decide(read_request(make_scope(), default_key), found, now) == expected


@pytest.mark.parametrize(
    ("headers", "found", "expected"),
    [
        # An Authorization request waits for nobody, and gets only what is marked as shareable.
        ({"authorization": "x"}, None, Miss("uri-miss", collapse=False)),
        ({"authorization": "x"}, ENTRY, Miss("request", collapse=False)),
        ({"authorization": "x"}, MARKED, Fresh(MARKED, 5)),
        ({"cookie": "a=b"}, ENTRY, Fresh(ENTRY, 5)),
        ({"cookie": "a=b"}, SILENT, Miss("request", collapse=False)),
        ({"cookie": "a=b"}, None, Miss("uri-miss")),
        ({"range": "bytes=0-1"}, ENTRY, Bypass("bypass")),
        ({"if-range": '"a"'}, ENTRY, Bypass("bypass")),
        ({"if-match": '"a"'}, ENTRY, Bypass("bypass")),
        ({"if-unmodified-since": "x"}, ENTRY, Bypass("bypass")),
        ({"content-length": "3"}, ENTRY, Bypass("bypass")),
        ({"content-length": "0"}, ENTRY, Fresh(ENTRY, 5)),
        ({"transfer-encoding": "chunked"}, ENTRY, Bypass("bypass")),
        ({"cache-control": "No-Store"}, ENTRY, Bypass("bypass")),
        # Reload buttons do not reach the origin.
        ({"cache-control": "no-cache, max-age=0"}, ENTRY, Fresh(ENTRY, 5)),
    ],
)
def test_request_fields(headers: dict[str, str], found: Any, expected: Decision) -> None:
    assert decide(read_request(make_scope(headers=headers), default_key), found, 100) == expected


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE", "get"])
def test_other_methods_go_to_the_origin(method: str) -> None:
    assert decide(read_request(make_scope(method=method), default_key), ENTRY, 100) == Bypass("method")


def test_head_is_answered_from_a_stored_get_and_otherwise_goes_alone() -> None:
    request = read_request(make_scope(method="HEAD"), default_key)
    assert decide(request, ENTRY, 100) == Fresh(ENTRY, 5)
    assert decide(request, None, 100) == Miss("uri-miss", collapse=False)


def test_a_key_function_can_leave_a_request_alone() -> None:
    assert decide(read_request(make_scope(), lambda scope: None), ENTRY, 100) == Bypass("bypass")


def test_the_default_key_tells_apart_whatever_the_origin_can() -> None:
    scopes = [
        make_scope("/a"),
        make_scope("/a?x=1"),
        make_scope("/a?x=1&y=2"),
        make_scope("/a?y=2&x=1"),
        make_scope("/A"),
        make_scope("/a/"),
        make_scope("/%61"),
        {**make_scope("/a"), "scheme": "https"},
        {**make_scope("/a"), "headers": [(b"host", b"other.test")]},
    ]
    assert len({default_key(scope) for scope in scopes}) == len(scopes)
    assert default_key({**make_scope("/a"), "headers": [(b"host", b"SHOP.test")]}) == default_key(scopes[0])


def test_the_default_key_needs_no_raw_path() -> None:
    scope = make_scope()
    del scope["raw_path"]
    assert default_key({**scope, "path": "/ä"}) == default_key({**scope, "path": "/ä", "raw_path": b"/%C3%A4"})


def test_a_question_mark_in_a_decoded_path_is_not_taken_for_the_query() -> None:
    scope = make_scope()
    del scope["raw_path"]
    in_path, in_query = {**scope, "path": "/a?b"}, {**scope, "path": "/a", "query_string": b"b?"}
    assert default_key(in_path) != default_key(in_query)


@pytest.mark.parametrize(
    "host", [b"shop.test", b"shop.test:8000", b"127.0.0.1:80", b"[::1]:8000", b"a_b", b"xn--bcher-kva.test", b"SHOP"]
)
def test_an_authority_is_a_host(host: bytes) -> None:
    scope = {**make_scope("/a"), "headers": [(b"host", host)]}
    assert read_request(scope, default_key).key == f"http://{host.decode().lower()}/a?"


@pytest.mark.parametrize(
    "hosts",
    [
        [b"shop.test/api"],
        [b"shop.test?"],
        [b"shop.test#"],
        [b"shop.test "],
        [b"user@shop.test"],
        [b"shop.test:80:80"],
        [b"shop.test:port"],
        [b"[::1"],
        [b"shop.test\n"],
        [b"sh\xf6p.test"],
        [b""],
        [b"shop.test", b"other.test"],
        [b"shop.test", b"shop.test"],
    ],
)
def test_a_request_without_one_legal_host_is_left_alone(hosts: list[bytes]) -> None:
    scope = {**make_scope("/a"), "headers": [(b"host", host) for host in hosts]}
    for key in (default_key, lambda scope: "a key of the user's own"):
        request = read_request(scope, key)
        assert request.key == ""
        assert decide(request, ENTRY, 100) == Bypass("bypass")


@pytest.mark.parametrize("target", [b"*", b"a", b"http://other.test/a", b"/a?b"])
def test_a_target_that_is_no_path_is_left_alone(target: bytes) -> None:
    assert read_request({**make_scope(), "raw_path": target}, default_key).bypass == "bypass"


def test_a_client_of_http_1_0_needs_no_host() -> None:
    assert read_request({**make_scope("/a"), "headers": []}, default_key).key == "http:///a?"


def test_repeated_fields_are_joined_in_order() -> None:
    assert fold([(b"a", b"1"), (b"b", b"x"), (b"a", b"2")]) == {b"a": b"1, 2", b"b": b"x"}
    assert fold(iter([(b"a", b"1")])) == {b"a": b"1"}


def test_an_absent_field_selects_another_variant_than_an_empty_one() -> None:
    assert selecting((b"a",), {}) != selecting((b"a",), {b"a": b""})
