"""Read the Cache-Control field of a response (RFC 9111, 5.2) without ever failing on it.

The field is written by strangers: it may be long, broken, repeated or contradict itself. What cannot
be read is called `malformed`, and nothing malformed is stored: caching too little is slow, caching
too much shows one person's page to another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["NO_DIRECTIVES", "CacheControl", "delta_seconds", "parse_cache_control"]

MAX_DELTA_SECONDS = 2**31
_MAX_DIGITS = len(str(MAX_DELTA_SECONDS))
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED = rb"[^\"\\]*+(?:\\.[^\"\\]*+)*"
# One list member with its comma. Possessive quantifiers keep hostile input linear: without them a long
# run of blanks before a bad character is tried once per blank. They stand behind single characters only:
# behind groups Python before 3.11.5 matches what it should not (CPython issue 106052).
_MEMBER = re.compile(
    rb"[ \t]*+(?:(%s)(?:=(?:\"(%s)\"|(%s)))?)?[ \t]*+(?:,|\Z)" % (_TOKEN, _QUOTED, _TOKEN),
    re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheControl:
    """The directives that a shared cache acts on; times are whole seconds, None where absent."""

    public: bool = False
    private: bool = False
    no_store: bool = False
    no_cache: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    max_age: int | None = None
    s_maxage: int | None = None
    stale_while_revalidate: int | None = None
    malformed: bool = False


NO_DIRECTIVES = CacheControl()
_MALFORMED = CacheControl(malformed=True)
# A qualified form (`private="x-user"`, `no-cache="set-cookie"`) is taken for the unqualified one.
# RFC 9111, 5.2.2.4 and 5.2.2.7: "many caches ... treat the qualified form as if it were unqualified".
_FLAGS = {
    b"public": "public",
    b"private": "private",
    b"no-store": "no_store",
    b"no-cache": "no_cache",
    b"must-revalidate": "must_revalidate",
    b"proxy-revalidate": "proxy_revalidate",
    b"must-understand": "must_understand",
}
_TIMES = {
    b"max-age": "max_age",
    b"s-maxage": "s_maxage",
    b"stale-while-revalidate": "stale_while_revalidate",
}


def parse_cache_control(value: bytes) -> CacheControl:
    """Read one Cache-Control value (several field lines joined by commas).

    Unknown directives are ignored (RFC 9111, 5.2.3). A time that is no number counts as 0
    (RFC 9111, 4.2.1: invalid freshness information makes a response stale). A value that breaks the
    grammar, or gives one directive two different times, is malformed as a whole.

    >>> parse_cache_control(b'public, max-age="60"').max_age
    60
    """
    flags: dict[str, bool] = {}
    times: dict[str, int] = {}
    position = 0
    while position < len(value):
        member = _MEMBER.match(value, position)
        if member is None:
            return _MALFORMED
        position = member.end()
        name = (member[1] or b"").lower()
        if name in _FLAGS:
            flags[_FLAGS[name]] = True
        elif name in _TIMES:
            seconds = delta_seconds(member[2] if member[2] is not None else member[3] or b"") or 0
            # RFC 9111, 4.2.1: with two values either the first is used or the response is stale.
            if times.setdefault(_TIMES[name], seconds) != seconds:
                return _MALFORMED
    return CacheControl(**flags, **times)  # type: ignore[arg-type] # the tables above name real fields


def delta_seconds(digits: bytes) -> int | None:
    """Return a whole number of seconds, or None when `digits` is anything else.

    RFC 9111, 1.2.2: a number too large to represent becomes 2147483648 (2^31). The cap also keeps
    `int()` away from numbers thousands of digits long, which it refuses or takes long over.
    """
    if not digits.isdigit():
        return None
    significant = digits.lstrip(b"0")
    if len(significant) > _MAX_DIGITS:
        return MAX_DELTA_SECONDS
    return min(int(significant or b"0"), MAX_DELTA_SECONDS)
