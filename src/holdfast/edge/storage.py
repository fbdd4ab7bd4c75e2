"""Decide whether a response may be stored, and for how long: the rules of RFC 9111, 3, in their order.

Pure: it is given the request, the head of the response, the policy and the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from holdfast.edge.cache_control import NO_DIRECTIVES, CacheControl, parse_cache_control
from holdfast.edge.freshness import Policy, explicit_lifetime, initial_age, stale_window
from holdfast.edge.request import CacheRequest, split_list

__all__ = ["NotStorable", "Storable", "Verdict", "judge"]

# RFC 9110, 15.1: heuristically cacheable, without 206 because ranges are not stored, plus 302 and 307,
# which are cacheable when they say so (15.4.3, 15.4.8).
_CACHEABLE = frozenset({200, 203, 204, 300, 301, 302, 307, 308, 404, 405, 410, 414, 501})
# An operator's ttl speaks for answers, not for failures: an error is stored only if it asks for it.
_CACHEABLE_BY_POLICY = frozenset({200, 203, 204, 300, 301, 308})
MAX_VARY_FIELDS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Storable:
    """The response may be stored; the fields are those of `Entry`."""

    fresh_for: float
    stale_for: float
    initial_age: float
    vary: tuple[bytes, ...]
    for_authorization: bool
    for_cookies: bool


@dataclass(frozen=True, slots=True)
class NotStorable:
    """The response may not be stored.

    Attributes:
        reason: one word, for logs and tests.
        about_request: the answer to another client's request might be storable all the same.
    """

    reason: str
    about_request: bool = False


Verdict = Storable | NotStorable


def judge(  # noqa: PLR0911 - one rule after the other, each with its own way out
    request: CacheRequest,
    status: int,
    headers: Mapping[bytes, bytes],
    policy: Policy,
    *,
    wall: float,
    response_delay: float,
) -> Verdict:
    """Decide about one response.

    Args:
        request: what was asked.
        status: the final status code.
        headers: lower-case names; repeated fields joined by commas.
        policy: what holds where the response is silent.
        wall: wall-clock seconds, for Date and Expires.
        response_delay: seconds that the origin took.
    """
    if request.method != "GET":
        return NotStorable("method", about_request=True)
    control = _governing(headers)
    if (refusal := _refusal(status, headers, control)) is not None:
        return NotStorable(refusal)
    vary = _vary(headers)
    if vary is None:
        return NotStorable("vary")
    stated = explicit_lifetime(control, headers, wall=wall)
    # RFC 9111, 3.5: an answer to a request with Authorization is shared only if it is marked by
    # must-revalidate, public or s-maxage. The RFC has no rule for Cookie. But where nobody but the
    # operator says for how long an answer can be shared, it may be a page made for one session, and must
    # not reach the next: `public` without a lifetime is not enough.
    marked = control.public or control.must_revalidate or control.s_maxage is not None
    for_authorization = marked and stated is not None
    if b"authorization" in request.headers and not for_authorization:
        return NotStorable("authorization", about_request=True)
    for_cookies = stated is not None
    if b"cookie" in request.headers and not for_cookies:
        return NotStorable("cookie", about_request=True)
    fresh_for = stated if stated is not None else _policy_lifetime(status, policy)
    if fresh_for is None:
        return NotStorable("no-lifetime")
    stale_for = stale_window(control, policy)
    age = initial_age(headers, wall=wall, response_delay=response_delay)
    if age >= fresh_for + stale_for:
        return NotStorable("expired")
    return Storable(
        fresh_for=fresh_for,
        stale_for=stale_for,
        initial_age=age,
        vary=vary,
        for_authorization=for_authorization,
        for_cookies=for_cookies,
    )


def _governing(headers: Mapping[bytes, bytes]) -> CacheControl:
    if (value := headers.get(b"cache-control")) is not None:
        return parse_cache_control(value)
    # Pragma means nothing in a response (RFC 9111, 5.4), but who sends it does not want a policy's ttl.
    if b"no-cache" in headers.get(b"pragma", b"").lower():
        return CacheControl(no_cache=True)
    return NO_DIRECTIVES


def _refusal(  # noqa: PLR0911 - see judge
    status: int, headers: Mapping[bytes, bytes], control: CacheControl
) -> str | None:
    if status not in _CACHEABLE:
        return "status"
    if control.malformed:
        return "malformed"
    # RFC 9111, 5.2.2.3: must-understand sets no-store aside where the status code is understood.
    if control.no_store and not control.must_understand:
        return "no-store"
    # RFC 9111, 5.2.2.7: "a shared cache MUST NOT store the response".
    if control.private:
        return "private"
    # RFC 9111, 5.2.2.4: no-cache may be stored but not used without asking first: no gain until this
    # cache can ask with a validator.
    if control.no_cache:
        return "no-cache"
    # RFC 9111, 7.3, leaves it to the cache. Whoever gets somebody else's session cookie is that somebody.
    if b"set-cookie" in headers:
        return "set-cookie"
    # It is made for one listener and has no end: whoever waited for it would wait in vain.
    if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() == b"text/event-stream":
        return "event-stream"
    return None


def _vary(headers: Mapping[bytes, bytes]) -> tuple[bytes, ...] | None:
    """Return the fields named by Vary, sorted; None when no other request can match.

    RFC 9111, 4.1: "a stored response with a Vary header field value containing a member "*" always
    fails to match". So does one with more members than anybody needs.
    """
    if b"vary" not in headers:
        return ()
    names = set(split_list(headers[b"vary"]))
    if b"*" in names or len(names) > MAX_VARY_FIELDS:
        return None
    return tuple(sorted(names))


def _policy_lifetime(status: int, policy: Policy) -> float | None:
    return policy.ttl if status in _CACHEABLE_BY_POLICY else None
