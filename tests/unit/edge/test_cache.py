"""EdgeCache in front of real ASGI applications."""

from typing import Any

import pytest

from holdfast import signals
from holdfast.edge import CacheServed, EdgeCache
from holdfast.errors import ConfigurationError
from tests.unit.edge.driver import Answer, Origin, ask, caching, make_scope, no_content, settle


async def test_a_second_request_is_answered_without_the_origin() -> None:
    origin = Origin(content_type="text/plain", etag='"v1"')
    cache, clock = caching(origin, ttl=60)

    first = await ask(cache, "/a")
    clock.now = 42.7
    second = await ask(cache, "/a")

    assert len(origin.calls) == 1
    assert (first.cache, first.header("age")) == ("holdfast; fwd=uri-miss", None)
    assert (second.cache, second.header("age")) == ("holdfast; hit; ttl=17", "42")
    assert second.body == first.body == b"answer 1"
    assert second.header("content-type") == "text/plain"
    assert second.header("content-length") == "8"


async def test_an_entry_ends_with_its_lifetime() -> None:
    origin = Origin()
    cache, clock = caching(origin, ttl=60)
    await ask(cache)
    clock.now = 60
    answer = await ask(cache)
    assert (answer.cache, answer.body) == ("holdfast; fwd=stale", b"answer 2")


async def test_stored_is_announced_where_it_is_certain() -> None:
    cache, _ = caching(Origin(content_length="8"), ttl=60)
    assert (await ask(cache)).cache == "holdfast; fwd=uri-miss; stored"


async def test_an_age_from_upstream_is_counted_on_and_not_repeated() -> None:
    cache, clock = caching(Origin(age="10", cache_control="max-age=60"))
    await ask(cache)
    clock.now = 5
    answer = await ask(cache)
    assert (answer.header("age"), answer.cache) == ("15", "holdfast; hit; ttl=45")


async def test_fields_of_one_connection_are_not_stored() -> None:
    """RFC 9111, 3.1."""
    origin = Origin(connection="x-hop, close", x_hop="1", keep_alive="5", proxy_authenticate="x", x_kept="2")
    cache, _ = caching(origin, ttl=60)
    await ask(cache)
    names = {name for name, _ in (await ask(cache)).lines}
    assert names == {b"x-kept", b"content-length", b"age", b"cache-status"}


async def test_the_status_of_an_inner_cache_stays_in_front() -> None:
    """RFC 9211, 2: each cache appends its own member."""
    cache, _ = caching(Origin(cache_status="inner; hit"), ttl=60)
    assert (await ask(cache)).cache == "inner; hit, holdfast; fwd=uri-miss"
    assert (await ask(cache)).cache == "inner; hit, holdfast; hit; ttl=60"


@pytest.mark.parametrize("request_headers", [{}, {"authorization": "me"}, {"range": "bytes=0-1"}])
async def test_headers_that_can_be_read_only_once_reach_everybody(request_headers: dict[str, str]) -> None:
    """ASGI: headers are an iterable, of a request as of a response."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        lines = [(b"content-length", b"2"), (b"x-seen", b"%d" % len(list(scope["headers"])))]
        await send({"type": "http.response.start", "status": 200, "headers": (line for line in lines)})
        await send({"type": "http.response.body", "body": b"ok"})

    cache, _ = caching(app, ttl=60)
    for _ in range(2):
        answer = Answer()
        scope = make_scope(headers=request_headers)
        await cache({**scope, "headers": iter(scope["headers"])}, no_content, answer.send)
        assert answer.header("content-length") == "2"
        assert answer.header("x-seen") == str(1 + len(request_headers))


async def test_a_caller_may_change_the_headers_it_got() -> None:
    cache, _ = caching(Origin(), ttl=60)
    await ask(cache)
    (await ask(cache)).lines.append((b"x", b"y"))
    seen: list[Any] = []

    async def spoil(message: Any) -> None:
        seen.append(message)
        if "headers" in message:
            message["headers"].append((b"x-spoilt", b"1"))

    await cache(make_scope(), no_content, spoil)
    assert (await ask(cache)).header("x-spoilt") is None


async def test_head_is_answered_from_get_and_never_stored() -> None:
    origin = Origin()
    cache, _ = caching(origin, ttl=60)
    assert (await ask(cache, method="HEAD")).cache == "holdfast; fwd=uri-miss"
    assert (await ask(cache)).cache == "holdfast; fwd=uri-miss"
    head = await ask(cache, method="HEAD")
    assert (head.status, head.body, head.header("content-length")) == (200, b"", "8")
    assert head.cache == "holdfast; hit; ttl=60"


# Who may share -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"cache_control": "no-store"},
        {"cache_control": "private, max-age=60"},
        {"cache_control": "no-cache"},
        {"cache_control": ["max-age=60", "no-store"]},
        {"cache_control": ["max-age=60", "max-age=1"]},
        {"cache_control": 'max-age="60'},
        {"set_cookie": "session=1"},
        {"set_cookie": ["a=1", "b=2"], "cache_control": "public, max-age=60"},
        {"vary": "*"},
        {"vary": ["accept", "*"]},
        {"expires": "0"},
        {"expires": ["Sun, 06 Nov 2094 08:49:37 GMT", "0"]},
    ],
)
async def test_what_must_not_be_shared_is_fetched_each_time(headers: dict[str, Any]) -> None:
    origin = Origin(**headers)
    cache, _ = caching(origin, ttl=60)
    bodies = [(await ask(cache)).body for _ in range(3)]
    assert bodies == [b"answer 1", b"answer 2", b"answer 3"]


async def test_capitals_in_an_applications_header_names_hide_nothing() -> None:
    origin = Origin()
    origin.headers = {"Set-Cookie": "a=b"}
    cache, _ = caching(origin, ttl=60)
    await ask(cache)
    assert (await ask(cache)).body == b"answer 2"


async def test_answers_for_one_user_do_not_reach_another() -> None:
    origin = Origin(cache_control="max-age=60")
    cache, _ = caching(origin)
    mine = await ask(cache, headers={"authorization": "me"})
    yours = await ask(cache, headers={"authorization": "you"})
    everyones = await ask(cache)
    mine_again = await ask(cache, headers={"authorization": "me"})
    assert [a.body for a in (mine, yours, everyones, mine_again)] == [b"answer %d" % n for n in (1, 2, 3, 4)]


async def test_under_a_ttl_a_session_neither_gives_nor_gets_a_shared_page() -> None:
    origin = Origin()
    cache, _ = caching(origin, ttl=60)
    session = {"cookie": "session=1"}
    bodies = [
        (await ask(cache, headers=session)).body,
        (await ask(cache)).body,
        (await ask(cache, headers=session)).body,
        (await ask(cache)).body,
    ]
    assert bodies == [b"answer 1", b"answer 2", b"answer 3", b"answer 2"]


@pytest.mark.parametrize("directive", ["public", "must-revalidate", "public, must-revalidate"])
@pytest.mark.parametrize("field", ["cookie", "authorization"])
async def test_a_ttl_shares_nothing_between_users_whatever_else_the_answer_says(directive: str, field: str) -> None:
    origin = Origin(cache_control=directive)
    cache, _ = caching(origin, ttl=60)
    asked = [{field: "alice"}, {}, {field: "bob"}, {}]
    bodies = [(await ask(cache, headers=headers)).body for headers in asked]
    assert bodies == [b"answer 1", b"answer 2", b"answer 3", b"answer 2"]


async def test_a_body_on_get_cannot_poison_the_key() -> None:
    origin = Origin()
    cache, _ = caching(origin, ttl=60)
    fat = await ask(cache, headers={"content-length": "9"})
    assert fat.cache == "holdfast; fwd=bypass"
    assert (await ask(cache)).body == b"answer 2"


async def test_a_path_hidden_in_the_host_cannot_poison_the_key() -> None:
    """Joined as they come, `shop.test/api` and `/balances` would be the key of `/api/balances`."""
    origin = Origin()
    cache, _ = caching(origin, ttl=60)
    attack = Answer()
    await cache({**make_scope("/balances"), "headers": [(b"host", b"shop.test/api")]}, no_content, attack.send)
    assert attack.cache == "holdfast; fwd=bypass"
    assert (await ask(cache, "/api/balances")).body == b"answer 2"


# Vary --------------------------------------------------------------------------------------------------


def _by_language(scope: Any) -> dict[str, str]:
    language = dict(scope["headers"]).get(b"accept-language", b"none").decode()
    return {"vary": "Accept-Language", "content-language": language}


async def test_each_variant_is_stored_beside_the_others() -> None:
    origin = Origin()
    origin.headers = _by_language
    cache, _ = caching(origin, ttl=60)
    for _ in range(2):
        for language in ("de", "fr"):
            answer = await ask(cache, headers={"accept-language": language})
            assert answer.header("content-language") == language
    assert (await ask(cache)).cache == "holdfast; fwd=vary-miss"
    assert len(origin.calls) == 3


async def test_invented_header_values_cannot_fill_the_cache() -> None:
    origin = Origin()
    origin.headers = _by_language
    cache, _ = caching(origin, ttl=60, max_variants=8)
    await ask(cache, "/other")
    for number in range(1_000):
        await ask(cache, headers={"accept-language": f"x-{number}"})
    assert cache._store.entries == 9  # type: ignore[attr-defined]
    assert (await ask(cache, headers={"accept-language": "x-999"})).cache.startswith("holdfast; hit")
    assert (await ask(cache, "/other")).cache.startswith("holdfast; hit")


async def test_a_vary_that_changes_never_mixes_variants_up() -> None:
    origin = Origin()
    cache, clock = caching(origin, ttl=60)
    await ask(cache, headers={"accept-language": "de"})
    clock.now = 60
    origin.headers = _by_language
    await ask(cache, headers={"accept-language": "de"})
    assert (await ask(cache, headers={"accept-language": "fr"})).header("content-language") == "fr"
    # An answer that stops varying does not make the set narrower again.
    origin.headers = {}
    await ask(cache, headers={"accept-language": "it"})
    assert (await ask(cache, headers={"accept-language": "fr"})).header("content-language") == "fr"


# Bounds ------------------------------------------------------------------------------------------------


async def test_the_least_recently_used_key_makes_room() -> None:
    cache, _ = caching(Origin(), ttl=60, max_entries=2)
    for path in ("/a", "/b", "/a", "/c"):
        await ask(cache, path)
    assert (await ask(cache, "/b")).cache == "holdfast; fwd=uri-miss"
    cache, _ = caching(Origin(), ttl=60, max_entries=2)
    for path in ("/a", "/b", "/a", "/c"):
        await ask(cache, path)
    assert (await ask(cache, "/a")).cache == "holdfast; hit; ttl=60"


async def test_the_sum_of_all_bodies_is_bounded() -> None:
    cache, _ = caching(Origin(body=b"x" * 10_000), ttl=60, max_bytes=100_000, max_body_bytes=20_000)
    for number in range(50):
        await ask(cache, f"/{number}")
        assert cache._store.size_bytes <= 100_000  # type: ignore[attr-defined]
    assert (await ask(cache, "/49")).cache == "holdfast; hit; ttl=60"
    for number in range(50):
        await cache.invalidate(f"http://shop.test/{number}?")
    assert (cache._store.entries, cache._store.size_bytes) == (0, 0)  # type: ignore[attr-defined]


async def test_an_entry_larger_than_the_whole_store_is_not_kept() -> None:
    cache, _ = caching(Origin(body=b"x" * 900), ttl=60, max_bytes=1_000, max_body_bytes=1_000)
    await ask(cache)
    assert (cache._store.entries, cache._store.size_bytes) == (0, 0)  # type: ignore[attr-defined]


# Unsafe methods ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "INVENTED"])
async def test_an_unsafe_method_invalidates_its_uri(method: str) -> None:
    """RFC 9111, 4.4."""
    cache, _ = caching(Origin(), ttl=60)
    await ask(cache, "/a")
    await ask(cache, "/b")
    assert (await ask(cache, "/a", method=method)).cache == "holdfast; fwd=method"
    assert (await ask(cache, "/a")).cache == "holdfast; fwd=uri-miss"
    assert (await ask(cache, "/b")).cache == "holdfast; hit; ttl=60"


@pytest.mark.parametrize(("method", "status"), [("POST", 409), ("POST", 500), ("OPTIONS", 200)])
async def test_a_failed_or_safe_request_invalidates_nothing(method: str, status: int) -> None:
    origin = Origin()
    cache, _ = caching(origin, ttl=60)
    await ask(cache)
    origin.status = status
    await ask(cache, method=method)
    assert (await ask(cache)).cache == "holdfast; hit; ttl=60"


# Conditional requests ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ({"if-none-match": '"v1"'}, 304),
        ({"if-none-match": 'W/"v1"'}, 304),
        ({"if-none-match": '"v0", "a,b", "v1"'}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"v2"'}, 200),
        ({"if-none-match": "v1"}, 200),
        ({"if-none-match": '"' * 9_000}, 200),
        ({"if-modified-since": "Sun, 06 Nov 1994 08:49:37 GMT"}, 304),
        ({"if-modified-since": "Sun, 06 Nov 1994 08:49:36 GMT"}, 200),
        ({"if-modified-since": "yesterday"}, 200),
        ({"if-none-match": '"v2"', "if-modified-since": "Sun, 06 Nov 1994 08:49:37 GMT"}, 200),
    ],
)
async def test_a_client_that_has_the_response_gets_304(condition: dict[str, str], status: int) -> None:
    origin = Origin(etag='W/"v1"', last_modified="Sun, 06 Nov 1994 08:49:37 GMT", content_type="text/plain")
    cache, _ = caching(origin, ttl=60)
    await ask(cache)
    answer = await ask(cache, headers=condition)
    assert answer.status == status
    assert (answer.body == b"") == (status == 304)
    assert answer.header("etag") == 'W/"v1"'
    if status == 304:
        assert answer.header("content-type") is answer.header("content-length") is None


async def test_a_shared_call_asks_the_origin_for_the_whole_response() -> None:
    """A 304 to the first client could not be stored for the others."""
    origin = Origin(etag='"v1"')
    cache, _ = caching(origin, ttl=60)
    await ask(cache, headers={"if-none-match": '"v1"', "x-kept": "1"})
    names = {name for name, _ in origin.calls[0]["headers"]}
    assert names == {b"host", b"x-kept"}


class Validating:
    """An origin that answers 304 by itself, and notes the conditions that reach it."""

    def __init__(self, *headers: tuple[bytes, bytes], chunks: int = 1) -> None:
        self.headers = [(b"etag", b'"v1"'), *headers]
        self.chunks = chunks
        self.conditions: list[bytes | None] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        condition = dict(scope["headers"]).get(b"if-none-match")
        self.conditions.append(condition)
        status = 304 if condition == b'"v1"' else 200
        await send({"type": "http.response.start", "status": status, "headers": self.headers})
        body = b"x" * 1_000 if status == 200 else b""
        for number in range(self.chunks):
            await send({"type": "http.response.body", "body": body, "more_body": number < self.chunks - 1})


CURRENT = {"if-none-match": '"v1"'}


async def test_the_client_that_causes_a_shared_call_gets_304_from_its_result() -> None:
    origin = Validating((b"cache-control", b"max-age=60"), (b"x-large", b"1"), chunks=3)
    cache, _ = caching(origin)
    first, second = await ask(cache, headers=CURRENT), await ask(cache)
    assert (first.status, first.body, first.complete, first.header("x-large")) == (304, b"", True, None)
    assert first.cache == "holdfast; fwd=uri-miss; stored"
    assert (second.status, len(second.body), second.cache) == (200, 3_000, "holdfast; hit; ttl=60")
    assert origin.conditions == [None]


async def test_a_client_with_an_old_copy_is_not_kept_waiting_for_the_whole_answer() -> None:
    origin = Validating((b"cache-control", b"max-age=60"), chunks=3)
    cache, _ = caching(origin)
    answer = await ask(cache, headers={"if-none-match": '"v0"'})
    assert (answer.status, answer.chunks) == (200, 3)


async def test_an_answer_that_grows_too_long_reaches_a_client_with_conditions_whole() -> None:
    cache, _ = caching(Validating((b"cache-control", b"max-age=60"), chunks=10), max_body_bytes=5_000)
    answer = await ask(cache, headers=CURRENT)
    assert (answer.status, len(answer.body), answer.complete) == (200, 10_000, True)
    assert answer.header("etag") == '"v1"'


async def test_an_answer_that_is_cut_off_reaches_a_client_with_conditions_as_it_is() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"etag", b'"v1"'), (b"cache-control", b"max-age=60")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    cache, _ = caching(app)
    answer = await ask(cache, headers=CURRENT)
    assert (answer.status, answer.body, answer.complete) == (200, b"half", False)


async def test_where_nobody_shares_the_origin_sees_the_conditions() -> None:
    """A page of 100 kB for each reader would otherwise be sent each time, cache or no cache."""
    origin = Validating((b"cache-control", b"private"))
    cache, clock = caching(origin)
    assert (await ask(cache, headers=CURRENT)).status == 200  # the first learns that it is private
    assert [(await ask(cache, headers=CURRENT)).status for _ in range(3)] == [304] * 3
    assert (await ask(cache, method="HEAD", headers=CURRENT)).status == 304
    assert (await ask(cache, "/mine", headers={**CURRENT, "authorization": "me"})).status == 304
    # A 304 says nothing about the page itself, so it does not prolong what was learnt.
    clock.now = 10
    origin.headers = [(b"etag", b'"v1"'), (b"cache-control", b"max-age=60")]
    assert (await ask(cache, headers=CURRENT)).cache == "holdfast; fwd=uri-miss; stored"


# The rest ----------------------------------------------------------------------------------------------


async def test_every_decision_is_told() -> None:
    told: list[CacheServed] = []
    stop = signals.subscribe(CacheServed, told.append)
    try:
        cache, clock = caching(Origin(), ttl=60, stale_while_revalidate=30)
        for method, now in (("GET", 0), ("GET", 1), ("GET", 60), ("POST", 60)):
            clock.now = now
            await ask(cache, "/a", method=method)
            await settle()
    finally:
        stop()
    key = "http://shop.test/a?"
    assert told == [
        CacheServed(outcome="miss", key=key, reason="uri-miss"),
        CacheServed(outcome="hit", key=key, age=1),
        CacheServed(outcome="stale", key=key, age=60),
        CacheServed(outcome="bypass", key=key, reason="method"),
    ]


async def test_a_websocket_is_none_of_its_business() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    scope = {"type": "websocket"}
    await EdgeCache(app)(scope, no_content, Answer().send)
    assert seen == [scope]


@pytest.mark.parametrize(
    "option",
    [
        {"ttl": 0},
        {"ttl": -1},
        {"ttl": float("inf")},
        {"ttl": "60"},
        {"stale_while_revalidate": 0},
        {"max_entries": 0},
        {"max_bytes": 0},
        {"max_body_bytes": 0},
        {"max_body_bytes": 65 * 2**20},
        {"max_variants": 0},
        {"max_refreshes": 1.5},
        {"collapse_timeout": 0},
        {"refresh_timeout": None},
        {"drain_timeout": -1},
    ],
)
def test_a_wrong_option_is_named_at_construction(option: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(option))):
        EdgeCache(Origin(), **option)
