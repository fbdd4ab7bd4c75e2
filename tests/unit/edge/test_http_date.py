"""Reading HTTP dates."""

import pytest

from holdfast.edge.http_date import parse_http_date

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    "value",
    [b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994"],
)
def test_all_three_formats_are_read(value: bytes) -> None:
    assert parse_http_date(value, now=NOW) == 784_111_777


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"0",
        b"-1",
        b"now",
        b"Sun, 06 Nov 1994 08:49:37",
        b"Sun, 06 Nov 1994 08:49:37 UTC",
        b"Sun, 31 Feb 1994 08:49:37 GMT",
        b"Sun, 06 Foo 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 25:00:00 GMT",
        b"Sun, 06 Nov 0000 08:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
    ],
)
def test_anything_else_is_no_date(value: bytes) -> None:
    assert parse_http_date(value, now=NOW) is None


def test_a_two_digit_year_is_at_most_50_years_ahead() -> None:
    ahead = parse_http_date(b"Monday, 06-Nov-73 00:00:00 GMT", now=NOW)
    behind = parse_http_date(b"Monday, 06-Nov-74 00:00:00 GMT", now=NOW)
    assert ahead is not None
    assert behind is not None
    assert behind < NOW < ahead
