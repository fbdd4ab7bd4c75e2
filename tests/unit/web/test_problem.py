"""Errors as problem documents: helpful to the client, silent about the server."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import holdfast.errors
from holdfast.errors import (
    BackendUnavailable,
    CircuitOpen,
    ConcurrencyConflict,
    ConfigurationError,
    HoldfastError,
    InvalidKey,
    KeyReused,
    RateLimited,
    Refused,
    StaleToken,
    TimedOut,
)
from holdfast.resilience import circuit_breaker, timeout
from holdfast.web.problem import PROBLEM_TYPES, problem

ALL = [kind for name in holdfast.errors.__all__ if issubclass(kind := getattr(holdfast.errors, name), HoldfastError)]


def make(kind: type[HoldfastError], message: str = "it failed", **facts: Any) -> HoldfastError:
    error = kind.__new__(kind, message)
    HoldfastError.__init__(error, message)
    error.__dict__.update(facts)
    return error


def test_a_refusal_in_full() -> None:
    described = problem(RateLimited("100 requests per second are allowed", retry_after=0.2, limit=100))
    assert described.status == 429
    assert json.loads(described.body()) == {
        "type": "https://holdfast.dev/problems/rate-limited",
        "title": "Too many requests",
        "status": 429,
        "detail": "100 requests per second are allowed",
        "retry_after": 0.2,
        "limit": 100,
    }
    assert described.headers == {
        "content-type": "application/problem+json",
        "cache-control": "no-store",
        "retry-after": "1",
    }


@pytest.mark.parametrize("kind", ALL)
def test_every_error_has_a_document(kind: type[HoldfastError]) -> None:
    described = problem(make(kind))
    assert described.document["type"] == PROBLEM_TYPES + kind.code
    assert described.document["title"] == kind.title
    assert described.status == described.document["status"] == kind.status


@pytest.mark.parametrize("kind", ALL)
def test_only_failures_of_the_service_hide_their_message_and_facts(kind: type[HoldfastError]) -> None:
    hidden = kind.status >= 500 and not issubclass(kind, Refused)
    document = problem(make(kind, fact=1)).document
    assert (document.keys() - {"type", "title", "status"} == set()) is hidden
    assert ("detail" in document) is not hidden


def test_an_error_of_the_root_class_does_not_show_what_it_quotes() -> None:
    body = problem(HoldfastError("could not reach postgresql://shop:hunter2@db", hint="hunter2")).body()
    assert b"hunter2" not in body


async def slow() -> None:
    await asyncio.sleep(1)


def failing() -> None:
    raise ConnectionError


def test_no_stranger_learns_where_a_policy_stands_in_the_source() -> None:
    """Its name is by default that of the function, with its module."""
    guarded = circuit_breaker(failure_threshold=1)(failing)
    with pytest.raises(ConnectionError):
        guarded()
    with pytest.raises(CircuitOpen) as opened:
        guarded()
    with pytest.raises(TimedOut) as timed_out:
        asyncio.run(timeout(0.001)(slow)())
    for error in (opened.value, timed_out.value):
        described = problem(error)
        assert __name__ not in described.body().decode()
        assert described.status in {503, 504}
    assert problem(opened.value).headers["retry-after"] == "30"
    assert problem(opened.value).document["retry_after"] == pytest.approx(30, abs=1)


def test_a_refusal_that_names_nothing_is_explained() -> None:
    described = problem(Refused("the shop is closed on Sundays", retry_after=3_600, opens="Monday"))
    assert described.status == 503
    assert described.document["detail"] == "the shop is closed on Sundays"
    assert described.document["opens"] == "Monday"


def test_a_configuration_error_says_nothing_to_strangers() -> None:
    error = ConfigurationError("url='redis://:hunter2@db.internal' is not legal", parameter="url", value="hunter2")
    body = problem(error).body()
    assert b"hunter2" not in body
    assert b"internal" not in body


def test_a_dead_store_is_not_described_to_strangers() -> None:
    error = BackendUnavailable("10.0.0.7:6379 refused", backend="redis://10.0.0.7", operation="take", retry_after=1.0)
    described = problem(error)
    assert b"10.0.0.7" not in described.body()
    assert described.document["retry_after"] == 1.0
    assert described.headers["retry-after"] == "1"


def test_an_invalid_key_is_explained_because_the_client_can_mend_it() -> None:
    assert problem(InvalidKey("key must have 1 to 255 characters, not 0")).document["detail"]


@pytest.mark.parametrize(
    "name",
    [
        *("token", "owner", "password", "url", "backend", "name", "status", "type", "a-b", "1st", "x"),
        *("api_key", "apiKey", "X_API_Key", "authorization", "Authorization", "set_cookie", "session_id", "dsn"),
        *("access_token", "client_secret", "db_password", "passwd", "private_key", "DATABASE_URL", "host"),
    ],
)
def test_a_fact_that_is_private_or_misnamed_stays_here(name: str) -> None:
    before = problem(make(StaleToken)).document
    assert problem(make(StaleToken, **{name: "secret"})).document == before


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        10**30,
        b"bytes",
        object(),
        {1: "a"},
        {"a": {"b": object()}},
        "x" * 1_001,
        "line\r\nbreak",
        "\ud800",
        ["x"] * 1_001,
        [[[[[[1]]]]]],
        None,
    ],
)
def test_a_fact_that_is_no_plain_json_is_left_out(value: object) -> None:
    assert "fact" not in problem(make(KeyReused, fact=value)).document


def test_a_fact_that_holds_a_private_one_stays_here() -> None:
    error = make(KeyReused, request={"headers": [{"authorization": "Bearer hunter2"}]}, other={"amount": 5})
    assert problem(error).document["other"] == {"amount": 5}
    assert b"hunter2" not in problem(error).body()


class Broken(HoldfastError):
    title = b"bytes"  # type: ignore[assignment]
    code = None  # type: ignore[assignment]
    status = 400

    def __str__(self) -> str:
        raise ValueError


def test_an_error_that_cannot_even_be_written_out_has_a_document() -> None:
    described = problem(Broken("x"))
    assert described.document == {"type": PROBLEM_TYPES + "error", "title": "b'bytes'", "status": 400}
    assert described.body()


def test_a_fact_that_holds_itself_is_left_out() -> None:
    loop: list[Any] = []
    loop.append(loop)
    tree: dict[str, Any] = {}
    tree["tree"] = tree
    assert "fact" not in problem(make(KeyReused, fact=loop)).document
    assert "fact" not in problem(make(KeyReused, fact=tree)).document


@pytest.mark.parametrize("value", [1, 2.5, "text", True, [1, "a"], {"expected": 3, "seen": [4, 5]}])
def test_plain_facts_are_extension_members(value: object) -> None:
    assert problem(make(ConcurrencyConflict, fact=value)).document["fact"] == value


@pytest.mark.parametrize(
    ("seconds", "header"),
    [
        (0, "0"),
        (0.001, "1"),
        (1, "1"),
        (1.0, "1"),
        (59.2, "60"),
        (-5, "0"),
        (1e300, "2147483648"),
        (10**400, "2147483648"),
        (float("inf"), "2147483648"),
        (float("nan"), None),
        (None, None),
        (True, None),
        ("1\r\nset-cookie: a=b", None),
    ],
)
def test_retry_after_is_whole_seconds_rounded_up(seconds: Any, header: str | None) -> None:
    assert problem(make(RateLimited, retry_after=seconds)).headers.get("retry-after") == header


@pytest.mark.parametrize(("status", "sent"), [(200, 500), (0, 500), (600, 500), (399, 500), (418, 418)])
def test_a_status_that_is_no_error_becomes_500(status: int, sent: int) -> None:
    kind = type("Odd", (HoldfastError,), {"status": status})
    assert problem(make(kind)).status == sent


def test_a_code_that_is_no_word_is_not_put_into_an_address() -> None:
    kind = type("Odd", (HoldfastError,), {"code": "../x\r\ny: z"})
    assert problem(make(kind)).document["type"] == PROBLEM_TYPES + "error"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=10,
)


@given(st.sampled_from(ALL), st.text(), st.dictionaries(st.text(), values), values)
def test_no_error_makes_it_fail_or_breaks_a_header(
    kind: type[HoldfastError], message: str, facts: dict[str, Any], retry_after: Any
) -> None:
    described = problem(make(kind, message, **{**facts, "retry_after": retry_after}))
    json.loads(described.body())
    for value in described.headers.values():
        assert value.isascii()
        assert value.isprintable()
