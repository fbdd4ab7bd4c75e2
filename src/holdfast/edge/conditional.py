"""Answer a client that already holds the stored response (RFC 9111, 4.3.2; RFC 9110, 13)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

from holdfast.edge.http_date import parse_http_date

__all__ = ["CONDITIONS", "Head", "is_not_modified", "without_conditions"]

CONDITIONS = frozenset({b"if-none-match", b"if-modified-since"})
_OK = 200
_ENTITY_TAG = re.compile(rb'"[^"]*+"')


class Head(Protocol):
    """What conditions are compared with: a stored response, or one that has begun."""

    @property
    def status(self) -> int:
        """The status code."""
        ...

    @property
    def etag(self) -> bytes | None:
        """The entity tag."""
        ...

    @property
    def last_modified(self) -> bytes | None:
        """Last-Modified, as it was sent."""
        ...


def is_not_modified(headers: Mapping[bytes, bytes], head: Head, *, wall: float) -> bool:
    """Return whether the client's copy is that response, so that a 304 is enough."""
    if CONDITIONS.isdisjoint(headers) or head.status != _OK:
        return False
    if (wanted := headers.get(b"if-none-match")) is not None:
        # RFC 9110, 13.1.3: If-Modified-Since is ignored beside If-None-Match.
        return _has_tag(wanted, head.etag)
    since = parse_http_date(headers[b"if-modified-since"], now=wall)
    modified = parse_http_date(head.last_modified or b"", now=wall)
    return since is not None and modified is not None and modified <= since


def without_conditions(lines: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return request fields that ask for the whole response: a 304 cannot be stored for others."""
    return [line for line in lines if line[0] not in CONDITIONS]


def _has_tag(wanted: bytes, etag: bytes | None) -> bool:
    # RFC 9110, 13.1.2: "*" matches any current representation; tags are compared weakly (8.8.3.2), so
    # the W/ in front does not count.
    if wanted.strip() == b"*":
        return True
    return etag is not None and etag.removeprefix(b"W/") in _ENTITY_TAG.findall(wanted)
