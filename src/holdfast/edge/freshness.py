"""How long a response may be used: pure arithmetic over its fields (RFC 9111, 4.2; RFC 5861, 3).

All of it works on the one `CacheControl` that governs the response, so that a targeted field such as
CDN-Cache-Control (RFC 9213, 2.2) can take its place without a change here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from holdfast.edge.cache_control import CacheControl, delta_seconds
from holdfast.edge.http_date import parse_http_date

__all__ = ["Policy", "explicit_lifetime", "initial_age", "stale_window"]


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decided for responses that say nothing themselves; None: nothing either.

    Attributes:
        ttl: freshness lifetime in seconds.
        stale_while_revalidate: seconds after it.
    """

    ttl: float | None = None
    stale_while_revalidate: float | None = None


def explicit_lifetime(control: CacheControl, headers: Mapping[bytes, bytes], *, wall: float) -> float | None:
    """Return the freshness lifetime that a response states in seconds, None when it states none.

    RFC 9111, 4.2.1: for a shared cache s-maxage, else max-age, else Expires minus Date.
    """
    if control.s_maxage is not None:
        return control.s_maxage
    if control.max_age is not None:
        return control.max_age
    if (expires := headers.get(b"expires")) is None:
        return None
    # RFC 9111, 5.3: invalid dates, "especially including the value "0"", mean already expired. Two
    # Expires lines were joined to one that is no date, so contradictions expire as well.
    expires_at = parse_http_date(expires, now=wall)
    if expires_at is None:
        return 0.0
    date = parse_http_date(headers.get(b"date", b""), now=wall)
    return max(0.0, expires_at - (wall if date is None else date))


def stale_window(control: CacheControl, policy: Policy) -> float:
    """Return for how many seconds a stale response may be used while it is fetched again."""
    # RFC 9111, 5.2.2.2: must-revalidate "MUST NOT reuse that response" once stale; 5.2.2.8:
    # proxy-revalidate is the same for shared caches.
    if control.must_revalidate or control.proxy_revalidate:
        return 0.0
    # RFC 9111, 5.2.2.10, gives s-maxage the effect of proxy-revalidate. An origin that writes
    # `s-maxage=60, stale-while-revalidate=30` in one field has allowed it all the same, and CDNs agree.
    if control.stale_while_revalidate is not None:
        return control.stale_while_revalidate
    # RFC 9111, 4.2.4: an applicable s-maxage forbids stale use that the response did not ask for.
    if control.s_maxage is not None:
        return 0.0
    return policy.stale_while_revalidate or 0.0


def initial_age(headers: Mapping[bytes, bytes], *, wall: float, response_delay: float) -> float:
    """Return how old a response was, in seconds, when it arrived (RFC 9111, 4.2.3).

    Args:
        headers: its fields.
        wall: wall-clock time of its arrival. A clock that differs from the origin's only shortens use.
        response_delay: seconds between asking and its arrival.
    """
    # RFC 9111, 5.1: use the first member of a list, ignore what is no non-negative integer.
    stated = delta_seconds(headers.get(b"age", b"").split(b",", 1)[0].strip())
    date = parse_http_date(headers.get(b"date", b""), now=wall)
    apparent_age = 0.0 if date is None else max(0.0, wall - date)
    # The delay is added only to a stated age: without one, the response was made while we waited.
    corrected_age = 0.0 if stated is None else stated + max(0.0, response_delay)
    return max(apparent_age, corrected_age)
