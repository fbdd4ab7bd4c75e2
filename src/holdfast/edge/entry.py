"""One stored response, ready to be sent.

What never changes between two hits is computed when the response is stored: a hit only adds Age and
Cache-Status.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from holdfast.edge._asgi import HeaderList
from holdfast.edge.request import Variant, split_list

__all__ = ["Entry", "VaryMiss", "stored_headers"]

# RFC 9111, 3.1: fields that belong to one connection or one proxy hop are not stored. Age is counted
# anew for every hit.
_NOT_STORED = frozenset(
    {
        *(b"age", b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer"),
        *(b"transfer-encoding", b"upgrade"),
        *(b"proxy-authenticate", b"proxy-authentication-info", b"proxy-authorization"),
    }
)
# RFC 9110, 15.4.5: what a 304 repeats of the 200 it stands for.
_IN_NOT_MODIFIED = frozenset(
    {b"cache-control", b"content-location", b"date", b"etag", b"expires", b"last-modified", b"vary"}
)
# Roughly what the objects of one entry take beside their bytes.
_OVERHEAD_BYTES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A response that may be used again.

    Attributes:
        stored_at: when its head arrived, on the monotonic clock.
        initial_age: seconds that it was old by then.
        fresh_for: its freshness lifetime in seconds, counted from age 0.
        stale_for: seconds after that in which it may be used while it is fetched again.
        vary: the request fields that select it, sorted; `variant` holds their values.
        for_authorization: it may answer requests that carry Authorization (RFC 9111, 3.5).
        for_cookies: it may answer requests that carry Cookie.
    """

    status: int
    headers: HeaderList
    body: bytes
    stored_at: float
    initial_age: float
    fresh_for: float
    stale_for: float
    vary: tuple[bytes, ...] = ()
    variant: Variant = ()
    for_authorization: bool = False
    for_cookies: bool = True
    etag: bytes | None = None
    last_modified: bytes | None = None

    def age(self, now: float) -> float:
        """Return the current age in seconds (RFC 9111, 4.2.3)."""
        return self.initial_age + now - self.stored_at

    def not_modified_headers(self) -> HeaderList:
        """Return the fields of a 304 that stands for this response."""
        return [line for line in self.headers if line[0] in _IN_NOT_MODIFIED]

    @property
    def size_bytes(self) -> int:
        """Roughly the memory that this entry takes."""
        lines = sum(len(name) + len(value) for name, value in self.headers)
        selectors = sum(len(value or b"") for value in self.variant)
        return len(self.body) + lines + selectors + _OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class VaryMiss:
    """The key is known but none of its variants fits; `vary` names the fields that select one."""

    vary: tuple[bytes, ...]


def stored_headers(
    lines: Iterable[tuple[bytes, bytes]], folded: Mapping[bytes, bytes], *, length: int | None
) -> HeaderList:
    """Return the lines of a response that are kept; with `length`, Content-Length is added if absent."""
    dropped = _NOT_STORED.union(split_list(folded.get(b"connection", b"")))
    kept = [(bytes(name), bytes(value)) for name, value in lines if name not in dropped]
    if length is not None and b"content-length" not in folded:
        kept.append((b"content-length", str(length).encode()))
    return kept
