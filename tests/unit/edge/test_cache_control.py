"""Reading Cache-Control: what is legal is understood, what is not never makes a response shareable."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.edge.cache_control import CacheControl, delta_seconds, parse_cache_control


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", CacheControl()),
        (b"max-age=60", CacheControl(max_age=60)),
        (b"MAX-AGE=60", CacheControl(max_age=60)),
        (b'max-age="60"', CacheControl(max_age=60)),
        (b" , ,max-age=60 ,\t, public,", CacheControl(max_age=60, public=True)),
        (b"max-age=60, max-age=60", CacheControl(max_age=60)),
        (b"s-maxage=5, max-age=60", CacheControl(s_maxage=5, max_age=60)),
        (b'private="set-cookie, x-user", max-age=1', CacheControl(private=True, max_age=1)),
        (b'no-cache="a\\"b"', CacheControl(no_cache=True)),
        (b"no-store", CacheControl(no_store=True)),
        (b"no-store-at-all, foo=bar", CacheControl()),
        (b'foo="no-store, max-age=9"', CacheControl()),
        (b"must-revalidate, proxy-revalidate", CacheControl(must_revalidate=True, proxy_revalidate=True)),
        (b"stale-while-revalidate=30", CacheControl(stale_while_revalidate=30)),
        # A time that is no number is no permission.
        (b"max-age", CacheControl(max_age=0)),
        (b"max-age=-1", CacheControl(max_age=0)),
        (b"max-age=1.5", CacheControl(max_age=0)),
        (b"max-age='60'", CacheControl(max_age=0)),
        (b"max-age=1e3", CacheControl(max_age=0)),
        (b"max-age=" + b"9" * 5_000, CacheControl(max_age=2**31)),
        (b"max-age=" + b"0" * 5_000 + b"7", CacheControl(max_age=7)),
    ],
)
def test_a_legal_field_is_understood(value: bytes, expected: CacheControl) -> None:
    assert parse_cache_control(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        b"max-age = 60",
        b"max-age=",
        b"max-age=60; public",
        b"max-age=60 public",
        b'max-age="60',
        b'"no-store"',
        b"max-age=60, max-age=61",
        b"\xff\xfe",
        b"max-age=\xd9\xa3",
        b"max-age=60\x00",
        b"=",
    ],
)
def test_a_field_that_breaks_the_grammar_or_contradicts_itself_is_malformed(value: bytes) -> None:
    assert parse_cache_control(value).malformed


@pytest.mark.parametrize("unit", [b" ", b"a", b",", b'"', b"a=", b'a="\\', b"\t ,"])
def test_a_huge_field_is_read_in_linear_time(unit: bytes) -> None:
    started = time.process_time()
    parse_cache_control(unit * 200_000 + b"\x00")
    assert time.process_time() - started < 2


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail(value: bytes) -> None:
    assert isinstance(parse_cache_control(value), CacheControl)


@given(st.text(alphabet='-=," mxagenosto0129\\', max_size=60))
def test_no_store_as_a_member_of_its_own_is_always_seen(prefix: str) -> None:
    control = parse_cache_control(prefix.encode() + b", no-store")
    # Inside an unclosed quote it is text, and then the whole field is malformed.
    assert control.no_store or control.malformed


@pytest.mark.parametrize("digits", [b"", b"+1", b" 1", b"1_0", b"0x1", "٣".encode()])
def test_only_ascii_digits_are_seconds(digits: bytes) -> None:
    assert delta_seconds(digits) is None
