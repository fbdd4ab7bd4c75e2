"""Read an HTTP date (RFC 9110, 5.6.7).

Written out because `email.utils`, which also accepts far too much, is slow to import where imports are
counted (an edge isolate starts cold).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

__all__ = ["parse_http_date"]

_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_TIME = rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_FORMATS = tuple(
    re.compile(pattern)
    for pattern in (
        rb"[A-Z][a-z]{2}, (?P<day>\d\d) (?P<month>[A-Z][a-z]{2}) (?P<year>\d{4}) " + _TIME + rb" GMT",
        rb"[A-Z][a-z]{5,8}, (?P<day>\d\d)-(?P<month>[A-Z][a-z]{2})-(?P<year>\d\d) " + _TIME + rb" GMT",
        rb"[A-Z][a-z]{2} (?P<month>[A-Z][a-z]{2}) (?P<day>[ \d]\d) " + _TIME + rb" (?P<year>\d{4})",
    )
)


def parse_http_date(value: bytes, *, now: float) -> float | None:
    """Return seconds since 1970-01-01 UTC, or None when `value` is no HTTP date.

    Args:
        value: the field's value; all three formats of RFC 9110 are read.
        now: wall-clock seconds, to tell the century of the obsolete two-digit years.

    >>> parse_http_date(b"Sun, 06 Nov 1994 08:49:37 GMT", now=0.0)
    784111777.0
    """
    for pattern in _FORMATS:
        if (match := pattern.fullmatch(value)) is not None:
            return _seconds(match.groupdict(), now)
    return None


def _seconds(parts: dict[str, bytes], now: float) -> float | None:
    try:
        month = _MONTHS.index(parts["month"]) + 1
        year = int(parts["year"])
        if len(parts["year"]) == len("94"):
            year = _full_year(year, now)
        clock = (int(parts["hour"]), int(parts["minute"]), int(parts["second"]))
        return datetime(year, month, int(parts["day"]), *clock, tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _full_year(two_digits: int, now: float) -> int:
    # RFC 9110, 5.6.7: a date more than 50 years in the future is the last past year with these digits.
    this_year = datetime.fromtimestamp(now, UTC).year
    year = this_year - this_year % 100 + two_digits
    return year - 100 if year > this_year + 50 else year
