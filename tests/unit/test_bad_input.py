"""Bad input: one clear error that names the parameter, the value and what is legal, before anything was done.

One table for everything public. No row needs a server: whatever would reach one has gone too far.
"""

import functools
import inspect
import math
import re
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import psycopg
import psycopg.rows
import pytest
import redis
import redis.asyncio
import sqlalchemy
import sqlalchemy.ext.asyncio
import sqlalchemy.orm
import valkey

import holdfast
from holdfast.backends import redis as redis_backend
from holdfast.backends.memory import Call, MemoryAsync, MemorySync
from holdfast.edge import EdgeCache
from holdfast.errors import ConfigurationError, InvalidKey
from holdfast.events import (
    ANY,
    Aggregate,
    Consumer,
    DeadLetters,
    Event,
    EventStore,
    MemoryBroker,
    Outbox,
    Position,
    RedisStreamBroker,
    Relay,
    SqlBroker,
    consumer,
    when,
)
from holdfast.idempotency import idempotency_key, idempotent_execute, prune
from holdfast.locks import FenceGuard, Lease, Lock, RedisLock
from holdfast.ratelimit import TokenBucketLimiter
from holdfast.resilience import Bulkhead, CircuitBreaker, bulkhead, circuit_breaker, retry, timeout

PASSWORD = "hunter2"


class Untouched(MemorySync):
    """A backend that nobody may ask anything."""

    def call(self, request: Call[Any]) -> Any:
        raise AssertionError(f"{request!r} was carried out")

    def run_function(self, function: Callable[..., Any], *args: object) -> Any:
        raise AssertionError(f"{function!r} was called")


class UntouchedAsync(MemoryAsync):
    """The same for asyncio code."""

    async def call(self, request: Call[Any]) -> Any:
        raise AssertionError(f"{request!r} was carried out")

    async def run_function(self, function: Callable[..., Any], *args: object) -> Any:
        raise AssertionError(f"{function!r} was called")


SYNC, ASYNC = Untouched(), UntouchedAsync()
# Nothing listens there, and nobody may find out.
URL = "redis://127.0.0.1:1/0"
REDIS = redis.Redis.from_url(URL)
SQLITE = holdfast.connect("sqlite:///:memory:")


def never(*_: Any) -> Any:
    raise AssertionError("called")


async def never_async(*_: Any) -> Any:
    raise AssertionError("called")


async def app(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("called")


def lease() -> Lease[Any]:
    """Return a lease that was granted long ago."""
    return Lease(SYNC, never, name="n", owner="o", token=1, ttl=1.0, expires=math.inf)  # type: ignore[arg-type]


# -- The table -------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One wrong value for one parameter of one constructor or function."""

    title: str
    call: Callable[[Any], Any]
    parameter: str
    value: Any
    legal: str
    """A part of what the message says is legal, as a pattern."""


NOT_POSITIVE: list[Any] = [0, -1, -0.5, math.nan, math.inf, -math.inf, True, "1", [1]]
NEGATIVE: list[Any] = [-1, -0.5, math.nan, math.inf, True, "1", [1]]
NOT_COUNT: list[Any] = [0, -1, 1.5, math.nan, math.inf, True, "1", None]
NOT_KEY: list[Any] = ["", "x" * 256, "a\nb", "a\x00", "\x7f", "\x85", "\u2028", "\ud800", b"a", None, 7, ["a"]]
NOT_NUMBER_FROM_0: list[Any] = [-1, 1.5, True, "0", None]
NOT_CLIENT: list[Any] = [
    object(),
    f"redis://:{PASSWORD}@127.0.0.1/0",
    7,
    redis.Redis,  # the class, not a client
    REDIS.pipeline(),
    REDIS.pubsub(),
    REDIS.connection_pool,
    redis.asyncio.Redis.from_url(URL).pipeline(),
    valkey.Valkey.from_url(URL).pipeline(),
    sqlite3.Row,
    sqlite3.connect(":memory:").cursor(),
    sqlalchemy.make_url(f"postgresql://u:{PASSWORD}@127.0.0.1/db"),
    psycopg.rows.tuple_row,
]
# Their values are large, or only the wrong part of them is told.
UNSAID = {"parts", "events", "payload", "commit"}
POSITIVE = "give a finite number greater than 0|give a number from"
NUMBER = "give a number from"
KEY = "1 to 255 characters|printable characters|must be a str"
CLIENT = r"is not legal: give (holdfast\.connect\(URL\)|a )"


def at_least(minimum: int) -> str:
    return f"give a whole number of at least {minimum}$"


POSITIVES, TIMEOUTS, NEGATIVES, WHOLES, KEYS = (
    (NOT_POSITIVE, POSITIVE),
    ([*NOT_POSITIVE, 2_147_483.7, 1e10, 1e300], f"({POSITIVE}).*24 days"),
    (NEGATIVE, NUMBER),
    (NOT_COUNT, at_least(1)),
    (NOT_KEY, KEY),
)
FLAGS: tuple[list[Any], str] = (["no", "", 0, 1, None], "give True or False")
KEYS_BUT_NONE = ([key for key in NOT_KEY if key is not None], KEY)


def rows(title: str, call: Callable[..., Any], **parameters: tuple[list[Any], str]) -> Iterator[Row]:
    """Make one row of each wrong value of each parameter, given by keyword."""
    for parameter, (values, legal) in parameters.items():
        for value in values:
            yield Row(title, functools.partial(_given, call, parameter), parameter, value, legal)


def _given(call: Callable[..., Any], parameter: str, value: Any) -> Any:
    return call(**{parameter: value})


def backend_rows() -> Iterator[Row]:
    for name, connect in (("connect", holdfast.connect), ("connect_async", holdfast.connect_async)):
        yield from rows(name, functools.partial(connect, "memory://"), timeout=TIMEOUTS)
        yield from rows(name, functools.partial(connect, "sqlite:///x.db"), timeout=TIMEOUTS)
        yield from rows(name, functools.partial(connect, URL), timeout=TIMEOUTS)
        yield from rows(name, functools.partial(connect, "postgresql://127.0.0.1:1/x"), timeout=TIMEOUTS)
    yield from rows("redis.adopt", functools.partial(redis_backend.adopt, REDIS), coalesce=FLAGS)


def lock_rows() -> Iterator[Row]:
    for kind, client in ((Lock, SYNC), (Lock, ASYNC), (RedisLock, REDIS)):
        make: Any = functools.partial(kind, client)
        yield from rows(f"{kind.__name__} on {client!r}", make, name=KEYS)
        make = functools.partial(kind, client, "name")
        options = {"ttl": ([*NOT_POSITIVE, 1e-9, 1e12], POSITIVE), "timeout": ([*NEGATIVE, 1e300], NUMBER)}
        yield from rows(f"{kind.__name__} on {client!r}", make, **options, request_timeout=POSITIVES)
    yield from rows("Lock.acquire", Lock(SYNC, "name").acquire, timeout=NEGATIVES)
    yield from rows("Lock.acquire, async", Lock(ASYNC, "name").acquire, timeout=NEGATIVES)
    yield from rows("Lease.extend", lambda ttl: lease().extend(ttl=ttl), ttl=POSITIVES)
    yield from rows("FenceGuard", FenceGuard, resource=KEYS)
    yield from rows(
        "FenceGuard.check", FenceGuard("r").check, token=([-1, 1.5, math.nan, True, "1", None], at_least(0))
    )


def limiter_rows() -> Iterator[Row]:
    for client in (SYNC, ASYNC, REDIS):
        limiter: Any = functools.partial(TokenBucketLimiter, client)
        title = f"TokenBucketLimiter on {client!r}"
        most = [*NOT_POSITIVE, 1e13]
        yield from rows(title, functools.partial(limiter, refill_rate=1), capacity=(most, POSITIVE))
        yield from rows(title, functools.partial(limiter, capacity=1), refill_rate=(most, POSITIVE))
        on_error = (["ignore", None, True, []], "give one of open, closed, local")
        options = {"name": KEYS, "timeout": TIMEOUTS, "on_error": on_error}
        yield from rows(title, functools.partial(limiter, capacity=1, refill_rate=1), **options)
    for limiter in (
        TokenBucketLimiter(SYNC, capacity=5, refill_rate=1),
        TokenBucketLimiter(ASYNC, capacity=5, refill_rate=1),
    ):
        for ask in (limiter.acquire, limiter.is_allowed, limiter.limited):
            title = f"TokenBucketLimiter.{ask.__name__} on {limiter!r}"
            yield from rows(title, ask, key=KEYS)
            yield from rows(title, functools.partial(ask, "key"), cost=([*NOT_POSITIVE, 6], f"{POSITIVE}|capacity=5"))


def resilience_rows() -> Iterator[Row]:
    options = {
        "failure_threshold": WHOLES,
        "recovery_timeout": POSITIVES,
        "half_open_probes": WHOLES,
        "probe_timeout": POSITIVES,
        "failures": (
            [None, 7, "ValueError", (), [int], KeyboardInterrupt],
            "give (subclasses of Exception|at least one)",
        ),
    }
    yield from rows("CircuitBreaker", functools.partial(CircuitBreaker, "name"), **options)
    yield from rows("CircuitBreaker", CircuitBreaker, name=KEYS)
    yield from rows("circuit_breaker", circuit_breaker, **options, name=KEYS_BUT_NONE)
    yield from rows(
        "retry",
        retry,
        max_attempts=WHOLES,
        base_delay=NEGATIVES,
        max_delay=([*NEGATIVE, 0.5, 1e6], NUMBER),
        max_time=POSITIVES,
        on=([Exception, BaseException, (ValueError, Exception), None, 7, "x"], "Exception"),
        name=KEYS_BUT_NONE,
        idempotent=FLAGS,
    )
    options = {"max_concurrent": WHOLES, "max_queue": (NOT_NUMBER_FROM_0, at_least(0)), "max_wait": POSITIVES}
    yield from rows("Bulkhead", functools.partial(Bulkhead, "name"), **options)
    yield from rows("Bulkhead", Bulkhead, name=KEYS)
    yield from rows("bulkhead", bulkhead, **options)
    yield from rows("timeout", timeout, seconds=([*NOT_POSITIVE, None], POSITIVE))
    for decorate in (CircuitBreaker("name"), circuit_breaker(), retry(), Bulkhead("name"), bulkhead(), timeout(1)):
        for value in (None, 7, "function", int, staticmethod(never)):
            title = f"a decorator, {type(decorate).__qualname__}"
            yield Row(title, decorate, "@", value, "give a function|write @staticmethod above")


def idempotency_rows() -> Iterator[Row]:
    for title, client, process in (
        ("idempotent_execute", SYNC, never),
        ("idempotent_execute, async", ASYNC, never_async),
    ):
        execute: Any = functools.partial(idempotent_execute, client, process=process)
        without_empty = [key for key in NOT_KEY if key not in ("", None)]
        yield from rows(title, functools.partial(execute, endpoint="/"), key=(without_empty, KEY))
        yield from rows(title, functools.partial(execute, "key"), endpoint=KEYS)
        yield from rows(
            title,
            functools.partial(execute, "key", "/"),
            scope=([key for key in NOT_KEY if key != ""], KEY),
            ttl=([*NOT_POSITIVE, 1e-9, 1e12], POSITIVE),
            lease=([*NOT_POSITIVE, 1e-9, 1e12], POSITIVE),
            wait=([*NEGATIVE, 1e300], NUMBER),
            max_result_bytes=WHOLES,
            request_timeout=TIMEOUTS,
            commit=([never], "give SQLite or PostgreSQL"),
            process=([None, 7, "process"], "give a function"),
            payload=([object(), {"a": {1}}], "payload"),
        )
        yield from rows(title, functools.partial(prune, client), limit=WHOLES)
    yield Row("idempotency_key", lambda _: idempotency_key(), "parts", None, "give what identifies")
    for part in (1.5, object(), {"a"}):
        yield Row("idempotency_key", idempotency_key, "parts", part, "parts")
    for namespace in ("x" * 256, "x" * 129, "a\nb", 7):
        call = functools.partial(_given, functools.partial(idempotency_key, "a"), "namespace")
        yield Row(
            "idempotency_key",
            call,
            "namespace",
            namespace,
            r"(1 to 255|at most 128) characters|printable characters|must be a str",
        )


def event_rows() -> Iterator[Row]:
    for title, client in (("", SYNC), (", async", ASYNC)):
        store: Any = EventStore(client)  # type: ignore[call-overload]
        append = functools.partial(store.append, "stream", [Event("happened")])
        yield from rows(f"EventStore{title}", functools.partial(EventStore, client), request_timeout=TIMEOUTS)
        yield from rows(f"append{title}", append, expected_version=(NOT_NUMBER_FROM_0, at_least(0)))
        append = functools.partial(store.append, events=[Event("happened")], expected_version=ANY)
        yield from rows(f"append{title}", append, stream=KEYS)
        append = functools.partial(store.append, "stream", expected_version=ANY)
        events = [[], None, Event("one"), ["one"], "one", [Event("one")] * 2, [Event("one", id="7")]]
        yield from rows(f"append{title}", append, events=(events, "give|1 to 255|printable|twice"))
        for event_type in NOT_KEY:
            call = lambda event_type, append=append: append(events=[Event(event_type)])  # noqa: E731
            yield Row(f"append{title}", call, "event type", event_type, KEY)
        append = functools.partial(store.append, "stream", expected_version=0)
        yield from rows(f"append{title}", append, events=([[Event("one", {"a": object()})]], "JSON"))  # type: ignore[dict-item]
        yield from rows(f"read{title}", store.read, stream=KEYS)
        yield from rows(
            f"read{title}", functools.partial(store.read, "s"), after_version=(NOT_NUMBER_FROM_0, at_least(0))
        )
        yield from rows(f"read{title}", functools.partial(store.read, "s"), limit=WHOLES)
        yield from rows(f"read_all{title}", store.read_all, limit=WHOLES)
        yield from rows(f"read_all{title}", store.read_all, after=([None, 7, "0.0"], "give .*osition"))
        yield from rows(f"Aggregate.load{title}", functools.partial(Aggregate.load, store), stream=KEYS)


def outbox_rows() -> Iterator[Row]:
    for title, client in (("", SYNC), (", async", ASYNC)):
        outbox: Any = Outbox(client)  # type: ignore[call-overload]
        yield from rows(f"Outbox{title}", functools.partial(Outbox, client), request_timeout=TIMEOUTS)
        yield from rows(f"Outbox.add{title}", functools.partial(outbox.add, payload=1), topic=KEYS)
        yield from rows(
            f"Outbox.add{title}",
            functools.partial(outbox.add, "topic"),
            payload=([object(), {1, 2}, math.nan], "JSON"),
        )
        yield from rows(
            f"Outbox.add{title}",
            functools.partial(outbox.add, "topic", 1),
            key=([key for key in NOT_KEY if key], KEY),
            message_id=KEYS_BUT_NONE,
            headers=([{"a": 1}, {1: "a"}, 7, "a"], "give"),
        )
        letters: Any = DeadLetters(client)  # type: ignore[call-overload]
        yield from rows(f"DeadLetters{title}", letters.read, limit=WHOLES)
        yield from rows(f"DeadLetters{title}", letters.retry, number=WHOLES)
        yield from rows(f"DeadLetters{title}", letters.discard, number=WHOLES)
    yield Row("when", when, "event type", "", KEY)
    for text in ("", "1", "1.x", "a.1", "-1.2", None, 7):
        yield Row("Position.parse", Position.parse, "position", text, "give what str")


def decorated(**options: Any) -> Any:
    arguments: Any = {"topic": "t", "name": "n"} | options
    return consumer(SQLITE, SqlBroker(SQLITE), **arguments)(never)


def messaging_rows() -> Iterator[Row]:
    turns = {"batch_size": WHOLES, "poll_interval": TIMEOUTS, "max_attempts": WHOLES, "retry_delay": POSITIVES}
    broker = MemoryBroker(SYNC)
    brokers = ([None, object(), MemoryBroker(ASYNC), holdfast.connect], "no method|same kind of client")
    yield from rows("Relay", functools.partial(Relay, SYNC, broker), **turns, lease=POSITIVES)
    yield from rows("Relay", functools.partial(Relay, SYNC), broker=brokers)
    table_broker = SqlBroker(SQLITE)
    consume = functools.partial(Consumer, SQLITE, table_broker, "name", never)
    yield from rows("Consumer", functools.partial(consume, topic="t"), **turns, inbox_age=POSITIVES)
    yield from rows("Consumer", consume, topic=KEYS)
    yield from rows("Consumer", functools.partial(Consumer, SQLITE, table_broker, handler=never, topic="t"), name=KEYS)
    yield from rows("Consumer", functools.partial(Consumer, SQLITE, name="n", handler=never, topic="t"), broker=brokers)
    handlers = ([None, 7, "handler", never_async], "give a function|must be `def`")
    yield from rows("Consumer", functools.partial(Consumer, SQLITE, table_broker, "n", topic="t"), handler=handlers)
    yield from rows("consumer", decorated, **turns, inbox_age=POSITIVES, topic=KEYS, name=KEYS)
    yield from rows("SqlBroker", functools.partial(SqlBroker, SQLITE), retention=POSITIVES, lease=POSITIVES)
    yield from rows("MemoryBroker", functools.partial(MemoryBroker, SYNC), retention=POSITIVES, lease=POSITIVES)
    streams = functools.partial(RedisStreamBroker, REDIS)
    yield from rows("RedisStreamBroker", streams, max_messages=WHOLES, lease=POSITIVES, ordered=FLAGS)


def edge_rows() -> Iterator[Row]:
    sizes = ("max_entries", "max_bytes", "max_body_bytes", "max_variants", "max_refreshes")
    times = ("collapse_timeout", "refresh_timeout", "drain_timeout")
    yield from rows("EdgeCache", functools.partial(EdgeCache, app), ttl=POSITIVES, stale_while_revalidate=POSITIVES)
    yield from rows("EdgeCache", functools.partial(EdgeCache, app), **dict.fromkeys(sizes, WHOLES))
    yield from rows("EdgeCache", functools.partial(EdgeCache, app), **dict.fromkeys(times, POSITIVES))
    yield from rows("EdgeCache", functools.partial(EdgeCache, app, max_bytes=9), max_body_bytes=([10], NUMBER))
    yield from rows("EdgeCache", EdgeCache, app=([None, 7, "app"], "give an ASGI application"))
    yield from rows("EdgeCache", functools.partial(EdgeCache, app), key=([None, 7, "key"], "give a function"))


def client_rows() -> Iterator[Row]:
    for title, call in {
        "Lock": lambda client: Lock(client, "name"),
        "RedisLock": lambda client: RedisLock(client, "name"),
        "TokenBucketLimiter": lambda client: TokenBucketLimiter(client, capacity=1, refill_rate=1),
        "idempotent_execute": lambda client: idempotent_execute(client, "key", "/", never),
        "prune": prune,
        "EventStore": EventStore,
        "Outbox": Outbox,
        "DeadLetters": DeadLetters,
        "Relay": lambda client: Relay(client, MemoryBroker(SYNC)),
        "Consumer": lambda client: Consumer(client, SqlBroker(SQLITE), "n", never, topic="t"),
        "SqlBroker": SqlBroker,
        "MemoryBroker": MemoryBroker,
        "RedisStreamBroker": RedisStreamBroker,
    }.items():
        for client in (None, *NOT_CLIENT):
            yield Row(title, call, "client", client, CLIENT)


def shown(row: Row) -> str:
    return f"{row.title}: {row.parameter}={ascii(row.value)[:40]}"


async def refusal(call: Callable[[], Any]) -> ConfigurationError:
    """Return the error of `call()`, which must be a ConfigurationError."""
    try:
        answer = call()
        if inspect.isawaitable(answer):
            await answer
    except ConfigurationError as error:
        return error
    except BaseException as error:
        raise AssertionError(f"{type(error).__name__}: {error}") from error
    raise AssertionError("accepted")


async def complaint(row: Row) -> str | None:
    """Return what is wrong about how `row` is refused, or None."""
    try:
        error = await refusal(lambda: row.call(row.value))
    except AssertionError as unexpected:
        return f"{unexpected}"
    message = str(error)
    named = "event id" if "event id" in message else row.parameter.strip("@")
    complaints = {
        "does not name the parameter": named not in message,
        "does not tell the value": not tells_value(row, message),
        "does not say what is legal": not re.search(row.legal, message),
        "tells the password": PASSWORD in message,
        "is no InvalidKey": row.legal == KEY and not isinstance(error, InvalidKey),
    }
    found = ", ".join(what for what, is_so in complaints.items() if is_so)
    return f"{found}: {error!r}" if found else None


def tells_value(row: Row, message: str) -> bool:
    if isinstance(row.value, str) and "characters" in row.legal:  # of a long one the length is told
        return repr(row.value) in message or f"not {len(row.value)}" in message
    return repr(row.value) in message or type(row.value).__name__ in message or row.parameter in UNSAID


TABLE = [
    backend_rows,
    lock_rows,
    limiter_rows,
    resilience_rows,
    idempotency_rows,
    event_rows,
    outbox_rows,
    messaging_rows,
    edge_rows,
    client_rows,
]


@pytest.mark.parametrize("part", TABLE)
async def test_every_wrong_value_of_every_parameter_is_refused_in_clear_words(
    part: Callable[[], Iterator[Row]],
) -> None:
    """By a ConfigurationError with parameter, value and what is legal; nothing was asked or called before."""
    table = list(part())
    failures = [f"{shown(row)}: {what}" for row in table if (what := await complaint(row)) is not None]
    assert not failures, f"{len(failures)} of {len(table)}:\n" + "\n".join(failures)


# -- URLs ------------------------------------------------------------------------------------------------------------

CONNECT = pytest.mark.parametrize("connect", [holdfast.connect, holdfast.connect_async])
URLS = {
    "": "without a scheme",
    "localhost:6379": "without a scheme",
    f"u:{PASSWORD}@localhost/db": "without a scheme",
    f"u:{PASSWORD}@localhost/?next=http://elsewhere": "without a scheme",
    f"mysql://u:{PASSWORD}@localhost/db": "url mysql://",
    f"postgresql+psycopg://u:{PASSWORD}@localhost/db": r"url postgresql\+psycopg://",
    f"redis+cluster+tls://:{PASSWORD}@localhost": r"url redis\+cluster\+tls://",
    f"redis://:{PASSWORD}@localhost:99999/0": "HOST or PORT is wrong",
    f"redis://:{PASSWORD}@localhost/one": "DB is not a whole number",
    f"redis://:{PASSWORD}@localhost/0?sleep={PASSWORD}": "OPTION is unknown",
    f"redis+sentinel://:{PASSWORD}@localhost": "SERVICE is missing",
    f"postgresql://u:{PASSWORD}#x@localhost/db": "percent-encoded",
    f"postgresql://u:{PASSWORD}@localhost/db?max_connections=0": "max_connections=0 is not legal",
    f"postgresql://u:{PASSWORD}@localhost/db?max_connections=many": "max_connections in url",
    f"sqlite://u:{PASSWORD}@localhost/db": "sqlite:///relative",
    f"sqlite:///file.db?key={PASSWORD}": "sqlite:///relative",
    "sqlite:///folder/": "sqlite:///relative",
    "memory://somewhere": "give memory://",
}


@CONNECT
@pytest.mark.parametrize("url", URLS)
def test_a_wrong_url_is_refused_when_it_is_opened(connect: Callable[[str], Any], url: str) -> None:
    """And never repeated, because it may hold a password."""
    with pytest.raises(ConfigurationError, match=URLS[url]) as refused:
        connect(url)
    assert re.search("is not legal: give|is not legal: it begins with|; legal is", str(refused.value))
    assert PASSWORD not in "".join(traceback.format_exception(refused.value))


@CONNECT
@pytest.mark.parametrize("url", [None, 7, b"redis://localhost", ["memory://"]])
def test_a_url_that_is_no_text_is_refused(connect: Callable[[Any], Any], url: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"url must be a str, not {type(url).__name__}"):
        connect(url)


# -- Clients ---------------------------------------------------------------------------------------------------------


def closed_clients() -> Iterator[Any]:
    connection = sqlite3.connect(":memory:")
    connection.close()
    yield connection
    engine = sqlalchemy.create_engine("sqlite:///:memory:")
    alchemy = engine.connect()
    alchemy.close()
    yield alchemy
    engine.dispose()


@pytest.mark.parametrize("client", [*closed_clients()], ids=lambda client: type(client).__module__)
def test_a_closed_connection_is_refused_before_it_is_used(client: Any) -> None:
    with pytest.raises(ConfigurationError, match="client that is closed is not legal: give an open"):
        Lock(client, "name")


@pytest.mark.parametrize(
    "call",
    [
        lambda: RedisLock(SYNC, "name"),
        lambda: RedisLock(SQLITE, "name"),
        lambda: RedisStreamBroker(SYNC),
        lambda: SqlBroker(SYNC),
        lambda: SqlBroker(redis.Redis(password=PASSWORD)),
        lambda: MemoryBroker(SQLITE),
        lambda: EventStore(REDIS),
        lambda: Outbox(REDIS),
        lambda: Relay(REDIS, MemoryBroker(SYNC)),
        lambda: Consumer(SYNC, MemoryBroker(SYNC), "n", never, topic="t"),
        lambda: idempotent_execute(REDIS, "key", "/", never, commit=never),
    ],
)
def test_a_client_of_another_store_is_refused(call: Callable[[], Any]) -> None:
    """The message says which stores the pattern runs on."""
    with pytest.raises(ConfigurationError, match=r"client of|runs? on|give ") as refused:
        call()
    assert re.search(r"(?i)redis|sqlite|memory", str(refused.value))
    assert PASSWORD not in str(refused.value)


# -- Colours ---------------------------------------------------------------------------------------------------------


async def test_the_wrong_spelling_names_the_right_one() -> None:
    """`with` for an asyncio client, `async with` for a blocking one: nothing was asked."""
    limiters: Any = [TokenBucketLimiter(client, capacity=1, refill_rate=1) for client in (SYNC, ASYNC)]
    blocking: list[Any] = [Lock(SYNC, "name"), limiters[0].limited("key")]
    awaited: list[Any] = [Lock(ASYNC, "name"), limiters[1].limited("key")]
    for block in awaited:
        with pytest.raises(ConfigurationError, match="asyncio client: write `async with"), block:
            pass
    for block in blocking:
        with pytest.raises(ConfigurationError, match="blocking client: write `with"):
            async with block:
                pass


COLOURED: list[tuple[Callable[[], Any], str]] = [
    (lambda: TokenBucketLimiter(SYNC, capacity=1, refill_rate=1).limited("key")(never_async), "`def`"),
    (lambda: TokenBucketLimiter(ASYNC, capacity=1, refill_rate=1).limited("key")(never), "`async def`"),
    (lambda: idempotent_execute(SYNC, "key", "/", never_async), "process is an `async def`"),
    (lambda: idempotent_execute(SQLITE, "key", "/", never, commit=never_async), "commit is an `async def`"),
    (lambda: Relay(SYNC, MemoryBroker(ASYNC)), "is asyncio and the client is blocking"),
    (lambda: Relay(ASYNC, MemoryBroker(SYNC)), "is blocking and the client is asyncio"),
    (lambda: Consumer(SQLITE, SqlBroker(SQLITE), "n", never_async, topic="t"), "must be `def`"),
    (lambda: timeout(1)(never), "make the function async"),
    (lambda: retry(sleep=never_async)(never), "give a blocking function"),
]


@pytest.mark.parametrize(("call", "right"), COLOURED)
def test_a_function_of_the_wrong_colour_is_refused(call: Callable[[], Any], right: str) -> None:
    with pytest.raises(ConfigurationError, match=right):
        call()


# -- Missing extras --------------------------------------------------------------------------------------------------

# A finder that does not find is what a machine without the package has.
WITHOUT = """
import importlib.machinery, sys
class Without:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            return None
        return importlib.machinery.PathFinder.find_spec(name, path, target)
sys.meta_path[:] = [Without if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
import holdfast, holdfast.cli
from holdfast.errors import MissingExtra
"""
DRIVERS = ["redis", "valkey", "psycopg", "asyncpg", "sqlalchemy", "fastapi", "starlette", "uvicorn"]
EXTRAS = {
    "holdfast.connect('redis://localhost')": "redis",
    "holdfast.connect_async('redis://localhost')": "redis",
    "holdfast.connect('rediss+cluster://localhost')": "redis",
    "holdfast.connect('redis+sentinel://localhost/service')": "redis",
    "holdfast.connect('valkey://localhost')": "redis",
    "holdfast.connect_async('redis+unix:///socket')": "redis",
    "holdfast.connect('postgresql://localhost')": "postgres",
    "holdfast.connect_async('postgresql://localhost')": "postgres",
    "__import__('holdfast.web.fastapi')": "fastapi",
    "holdfast.cli.demo._run(None)": "demo",
}


def test_a_missing_driver_names_the_line_that_installs_it() -> None:
    """When the backend is opened, not when it is first used."""
    calls = "\n".join(
        f"try:\n    {call}\n    print('accepted')\nexcept MissingExtra as error:\n    print(error)" for call in EXTRAS
    )
    told = without(DRIVERS, calls).splitlines()
    for line, (call, extra) in zip(told, EXTRAS.items(), strict=True):
        assert f'pip install "holdfast[{extra}]"' in line, f"{call}: {line}"


def test_one_driver_stands_in_for_another() -> None:
    """valkey-py for redis-py, asyncpg for psycopg where it can, and then nothing is missing."""
    calls = "holdfast.connect('redis://h'); holdfast.connect_async('postgresql://h'); print('opened')"
    assert without(["redis", "psycopg"], calls) == "opened"


def without(missing: list[str], calls: str) -> str:
    """Return what `calls` print on a machine without these packages."""
    program = f"MISSING = {missing!r}\n{WITHOUT}\n{calls}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
