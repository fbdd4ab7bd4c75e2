"""What may be stored, and for how long: the rules of RFC 9111 as a table."""

from typing import Any

import pytest

from holdfast.edge.freshness import Policy
from holdfast.edge.request import CacheRequest
from holdfast.edge.storage import NotStorable, Storable, judge

WALL = 784_111_777.0
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
A_MINUTE_LATER = b"Sun, 06 Nov 1994 08:50:37 GMT"
A_MINUTE_EARLIER = b"Sun, 06 Nov 1994 08:48:37 GMT"
POLICY = Policy(ttl=10, stale_while_revalidate=20)
COOKIE = {b"cookie": b"session=1"}
AUTHORIZATION = {b"authorization": b"Bearer x"}


def verdict(
    response: dict[bytes, bytes],
    *,
    status: int = 200,
    policy: Policy = POLICY,
    request: dict[bytes, bytes] | None = None,
    delay: float = 0.0,
) -> Any:
    asked = CacheRequest("GET", "key", request or {})
    return judge(asked, status, response, policy, wall=WALL, response_delay=delay)


def cc(value: bytes) -> dict[bytes, bytes]:
    return {b"cache-control": value}


@pytest.mark.parametrize(
    ("response", "fresh_for", "stale_for"),
    [
        # The response is silent: the policy speaks.
        ({}, 10, 20),
        (cc(b"public"), 10, 20),
        (cc(b"immutable, foo=1"), 10, 20),
        (cc(b"must-revalidate"), 10, 0),
        (cc(b"stale-while-revalidate=3"), 10, 3),
        # RFC 9111, 4.2.1: the order of the sources of freshness.
        (cc(b"max-age=60"), 60, 20),
        (cc(b"max-age=60, s-maxage=30"), 30, 0),
        ({b"expires": A_MINUTE_LATER}, 60, 20),
        ({b"expires": A_MINUTE_LATER, b"date": A_MINUTE_EARLIER}, 120, 20),
        ({b"expires": A_MINUTE_LATER, b"cache-control": b"max-age=5"}, 5, 20),
        ({b"expires": A_MINUTE_LATER, b"date": b"never"}, 60, 20),
        # RFC 5861, 3, and what forbids it.
        (cc(b"max-age=60, stale-while-revalidate=5"), 60, 5),
        (cc(b"max-age=0, stale-while-revalidate=5"), 0, 5),
        (cc(b"s-maxage=60, stale-while-revalidate=5"), 60, 5),
        (cc(b"max-age=60, stale-while-revalidate=5, must-revalidate"), 60, 0),
        (cc(b"max-age=60, stale-while-revalidate=5, proxy-revalidate"), 60, 0),
        # RFC 9111, 5.2.2.3: the status code is understood.
        (cc(b"max-age=60, no-store, must-understand"), 60, 20),
    ],
)
def test_lifetime_and_stale_window(response: dict[bytes, bytes], fresh_for: float, stale_for: float) -> None:
    answer = verdict(response)
    assert isinstance(answer, Storable)
    assert (answer.fresh_for, answer.stale_for) == (fresh_for, stale_for)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (cc(b"no-store"), "no-store"),
        (cc(b"max-age=60, no-store"), "no-store"),
        (cc(b"private, max-age=60"), "private"),
        (cc(b'private="x", max-age=60'), "private"),
        (cc(b"no-cache, max-age=60"), "no-cache"),
        (cc(b"max-age=60, max-age=5"), "malformed"),
        (cc(b"max-age=60; s-maxage"), "malformed"),
        ({b"pragma": b"no-cache"}, "no-cache"),
        ({b"set-cookie": b"a=b", b"cache-control": b"public, max-age=60"}, "set-cookie"),
        ({b"vary": b"*"}, "vary"),
        ({b"vary": b"accept, *"}, "vary"),
        ({b"vary": b", ".join(b"x-%d" % n for n in range(17))}, "vary"),
        ({b"content-type": b"Text/Event-Stream; charset=utf-8", b"cache-control": b"max-age=5"}, "event-stream"),
        # The policy does not help a response that has spoken.
        (cc(b"max-age=0, must-revalidate"), "expired"),
        (cc(b"s-maxage=0"), "expired"),
        (cc(b"max-age=soon, must-revalidate"), "expired"),
        ({b"expires": b"0", b"cache-control": b"must-revalidate"}, "expired"),
        ({b"cache-control": b"s-maxage=60", b"age": b"60"}, "expired"),
    ],
)
def test_what_is_not_stored(response: dict[bytes, bytes], reason: str) -> None:
    assert verdict(response) == NotStorable(reason)


def test_without_a_policy_a_silent_response_is_not_stored() -> None:
    assert verdict({}, policy=Policy()) == NotStorable("no-lifetime")


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308])
def test_a_policy_speaks_for_success(status: int) -> None:
    assert isinstance(verdict({}, status=status), Storable)


@pytest.mark.parametrize("status", [302, 307, 404, 405, 410, 414, 501])
def test_redirects_and_errors_are_stored_only_when_they_say_so(status: int) -> None:
    assert verdict({}, status=status) == NotStorable("no-lifetime")
    assert isinstance(verdict(cc(b"max-age=5"), status=status), Storable)


@pytest.mark.parametrize("status", [100, 201, 206, 303, 304, 400, 401, 403, 429, 500, 502, 503, 504, 999])
def test_other_status_codes_are_never_stored(status: int) -> None:
    assert verdict(cc(b"public, max-age=60"), status=status) == NotStorable("status")


@pytest.mark.parametrize("directive", [b"public, max-age=5", b"s-maxage=5", b"max-age=5, must-revalidate"])
def test_an_answer_to_authorization_is_shared_only_when_marked(directive: bytes) -> None:
    """RFC 9111, 3.5."""
    assert verdict(cc(b"max-age=5"), request=AUTHORIZATION) == NotStorable("authorization", about_request=True)
    assert verdict({}, request=AUTHORIZATION) == NotStorable("authorization", about_request=True)
    marked = verdict(cc(directive), request=AUTHORIZATION)
    assert isinstance(marked, Storable)
    assert marked.for_authorization


@pytest.mark.parametrize("response", [{}, cc(b"public"), cc(b"must-revalidate"), cc(b"public, must-revalidate")])
def test_a_policy_is_never_applied_to_a_request_with_a_cookie_or_authorization(response: dict[bytes, bytes]) -> None:
    assert verdict(response, request=COOKIE) == NotStorable("cookie", about_request=True)
    assert verdict(response, request=AUTHORIZATION) == NotStorable("authorization", about_request=True)
    for_others = verdict(response)
    assert isinstance(for_others, Storable)
    assert not for_others.for_cookies
    assert not for_others.for_authorization


def test_an_answer_that_states_its_lifetime_is_shared_with_sessions() -> None:
    stated = verdict(cc(b"max-age=5"), request=COOKIE)
    assert isinstance(stated, Storable)
    assert stated.for_cookies


@pytest.mark.parametrize(
    ("response", "delay", "age"),
    [
        ({}, 3.0, 0),
        ({b"age": b"7"}, 0.0, 7),
        ({b"age": b"7"}, 3.0, 10),
        ({b"age": b"7, 9"}, 0.0, 7),
        ({b"age": b"-7"}, 0.0, 0),
        ({b"age": b"7.5"}, 0.0, 0),
        ({b"age": b'"7"'}, 0.0, 0),
        ({b"date": A_MINUTE_EARLIER}, 0.0, 60),
        ({b"date": A_MINUTE_LATER}, 0.0, 0),
        ({b"date": A_MINUTE_EARLIER, b"age": b"90"}, 0.0, 90),
    ],
)
def test_age_on_arrival(response: dict[bytes, bytes], delay: float, age: float) -> None:
    """RFC 9111, 4.2.3 and 5.1."""
    answer = verdict({**response, b"cache-control": b"max-age=1000"}, delay=delay)
    assert isinstance(answer, Storable)
    assert answer.initial_age == age


def test_vary_is_a_sorted_set_of_lower_case_names() -> None:
    answer = verdict({b"vary": b"Accept-Language,, accept , ACCEPT"})
    assert isinstance(answer, Storable)
    assert answer.vary == (b"accept", b"accept-language")
