"""Each public operation, its server killed or frozen: the right one of the two errors, within the deadline.

`BackendUnavailable` when certainly nothing was done: the server was gone before, or was only asked to read.
`OutcomeUnknown` when it may have been done: it had the request, and no answer came. Limiters decide instead of raising.
Afterwards the same objects work again.
"""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import psycopg
import pytest

import holdfast
from holdfast.backends import migrations
from holdfast.backends.postgres import PostgresAsync
from holdfast.backends.postgres._address import parse
from holdfast.backends.postgres._connect import asyncpg_pool
from holdfast.errors import BackendError, BackendUnavailable, ConfigurationError, LockNotAcquired, OutcomeUnknown
from holdfast.events import ANY, Consumer, Delivery, Event, EventStore, Message, Outbox, RedisStreamBroker, Relay
from holdfast.idempotency import idempotent_execute
from holdfast.locks import Lock
from holdfast.locks.lock import LEAST_ANSWER_TIME
from holdfast.ratelimit import Decision, TokenBucketLimiter
from holdfast.testing.services import PostgresServer, RedisServer, Server
from tests.conftest import started
from tests.integration.backends.sql_backends import POSTGRES_CLIENTS, now

DEADLINE = 0.6
# What an answer may come too late by, on a machine that does other things too.
GRACE = 0.5
# Nothing ends by itself during a test.
LONG = 600.0

KINDS = ["redis", "redis async", "psycopg", "psycopg async", "asyncpg"]
each_kind = pytest.mark.parametrize("kind", KINDS)
sql_kinds = pytest.mark.parametrize("kind", KINDS[2:])


class Dice(random.Random):
    """Never ask for the tidying up that one operation in many does first."""

    def random(self) -> float:
        return 0.5


def opened(kind: str, url: str) -> Any:
    """Return a backend of its own, so that no operation waits for another one's connection."""
    if kind == "asyncpg":
        address = parse(url)
        return PostgresAsync(asyncpg_pool(address), address.place, timeout=DEADLINE, random=Dice())
    connect: Any = holdfast.connect_async if "async" in kind else holdfast.connect
    backend = connect(url, timeout=DEADLINE)
    backend.random = Dice()
    return backend


def is_async(kind: str) -> bool:
    return "async" in kind


# -- The operations ----------------------------------------------------------------------------------------------------

Call = Callable[[], Any]
_numbers = itertools.count()


class Broker:
    """Takes every message, hands one out, and calls what it is told to while it does so."""

    def __init__(self, during: Call = lambda: None, messages: Iterator[str] | None = None) -> None:
        self.during = during
        self.messages = messages or (f"m-{number}" for number in itertools.count())
        self.published: list[str] = []

    def publish(self, messages: Any) -> None:
        self.published += [message.id for message in messages]
        self.during()

    def receive(self, topic: str, name: str, limit: int) -> list[Delivery]:
        return [Delivery(Message(id=next(self.messages), topic=topic), None)]

    def ack(self, *_: object) -> None:
        """Believe it."""


class AsyncBroker(Broker):
    async def publish(self, messages: Any) -> None:  # type: ignore[override]
        super().publish(messages)

    async def receive(self, topic: str, name: str, limit: int) -> list[Delivery]:  # type: ignore[override]
        return super().receive(topic, name, limit)

    async def ack(self, *_: object) -> None:  # type: ignore[override]
        super().ack()


def broker(kind: str, *options: Any) -> Any:
    return (AsyncBroker if is_async(kind) else Broker)(*options)


def handler(kind: str, sql: str = "select 1", during: Call = lambda: None) -> Any:
    """Return a handler, or a process, that carries out `sql` in the transaction it is given."""

    async def awaited(tx: Any, message: object = None) -> str:
        await tx.execute(sql)
        during()
        return "done"

    def blocking(tx: Any, message: object = None) -> str:
        tx.execute(sql)
        during()
        return "done"

    return awaited if is_async(kind) else blocking


async def acquiring(db: Any, kind: str) -> Call:
    return lambda: Lock(db, f"lock-{next(_numbers)}", ttl=LONG).acquire()


async def waiting(db: Any, kind: str) -> Call:
    """Ask for a lock that somebody else holds, again and again."""
    assert await now(Lock(db, "taken", ttl=LONG).acquire())
    lock = Lock(db, "taken", timeout=0.02)

    async def enter() -> None:
        with contextlib.suppress(LockNotAcquired):
            async with lock:
                raise AssertionError("granted")

    def enter_blocking() -> None:
        with contextlib.suppress(LockNotAcquired), lock:
            raise AssertionError("granted")

    return enter if is_async(kind) else enter_blocking


async def extending(db: Any, kind: str) -> Call:
    lease = await now(Lock(db, "extended", ttl=LONG).acquire())
    return lease.extend  # type: ignore[no-any-return]


async def releasing(db: Any, kind: str) -> Call:
    lease = await now(Lock(db, "released", ttl=LONG).acquire())
    return lease.release  # type: ignore[no-any-return]


def limiting(on_error: Any) -> Any:
    async def making(db: Any, kind: str) -> Call:
        limiter = TokenBucketLimiter(db, capacity=9, refill_rate=1, timeout=DEADLINE, on_error=on_error)
        await now(limiter.acquire("key"))
        return lambda: limiter.acquire("key")

    return making


async def executing(db: Any, kind: str) -> Call:
    return lambda: idempotent_execute(db, f"key-{next(_numbers)}", "/payments", lambda: "paid")


async def appending(db: Any, kind: str) -> Call:
    store = EventStore(db)
    return lambda: store.append("stream", [Event("happened")], expected_version=ANY)


async def reading(db: Any, kind: str) -> Call:
    store = EventStore(db)
    return lambda: store.read("stream")


async def reading_all(db: Any, kind: str) -> Call:
    store = EventStore(db)
    return store.read_all  # type: ignore[no-any-return]


async def adding(db: Any, kind: str) -> Call:
    outbox = Outbox(db)
    return lambda: outbox.add("topic", {"order": 1})


async def counting(db: Any, kind: str) -> Call:
    return Outbox(db).backlog  # type: ignore[no-any-return]


async def relaying(db: Any, kind: str) -> Call:
    relay = Relay(db, broker(kind), lease=0.001)
    return relay.run_once  # type: ignore[no-any-return]


async def consuming(db: Any, kind: str) -> Call:
    consumer = Consumer(db, broker(kind), "name", handler(kind), topic="topic")
    return consumer.run_once  # type: ignore[no-any-return]


async def publishing(db: Any, kind: str) -> Call:
    streams = RedisStreamBroker(db)
    return lambda: streams.publish([Message(id="1", topic="topic")])


async def receiving(db: Any, kind: str) -> Call:
    streams = RedisStreamBroker(db)
    return lambda: streams.receive("topic", "name", 1)


class Operation(NamedTuple):
    """One public operation: how to prepare it, and what it must do when its server gives no answer."""

    prepare: Callable[[Any, str], Awaitable[Call]]
    unanswered: Any
    """The error, or what a limiter decides."""
    gone: Any = BackendUnavailable
    """The same when there is no server."""
    deadline: float = DEADLINE
    """When it is left without an answer."""


COMMON = [
    Operation(acquiring, OutcomeUnknown),
    Operation(waiting, OutcomeUnknown, deadline=LEAST_ANSWER_TIME),
    Operation(extending, OutcomeUnknown),
    Operation(releasing, OutcomeUnknown),
    Operation(limiting("open"), "allowed", "allowed"),
    Operation(limiting("closed"), "refused", "refused"),
]
ON_REDIS = [
    *COMMON,
    Operation(executing, OutcomeUnknown),
    Operation(publishing, OutcomeUnknown),
    Operation(receiving, OutcomeUnknown),
]
ON_POSTGRES = [
    *COMMON,
    # In one transaction, and its first step only looks.
    Operation(executing, BackendUnavailable),
    Operation(appending, OutcomeUnknown),
    Operation(reading, BackendUnavailable),
    Operation(reading_all, BackendUnavailable),
    Operation(adding, OutcomeUnknown),
    Operation(counting, BackendUnavailable),
    Operation(relaying, OutcomeUnknown),
    # Its first step only looks for what is due.
    Operation(consuming, BackendUnavailable),
]


class Prepared(NamedTuple):
    """An operation on an open connection, and what came of it."""

    operation: Operation
    db: Any
    call: Call

    async def carried_out(self, threads: ThreadPoolExecutor) -> "Outcome":
        """Carry it out, a blocking one in a thread."""
        begun = time.monotonic()
        try:
            if hasattr(self.db, "aclose"):
                answer = await self.call()
            else:
                answer = await asyncio.get_running_loop().run_in_executor(threads, self.call)
        except Exception as error:  # noqa: BLE001 - judged by the test
            answer = error
        return Outcome(self.operation, answer, time.monotonic() - begun)


class Outcome(NamedTuple):
    operation: Operation
    answer: Any
    seconds: float

    def complaint(self, expected: Any, most: float) -> str | None:
        name = self.operation.prepare.__name__
        if isinstance(expected, str):
            right = isinstance(self.answer, Decision) and self.answer.degraded
            right = right and self.answer.allowed is (expected == "allowed")
        else:
            right = type(self.answer) is expected
        if not right:
            return f"{name}: {expected} was expected, not {self.answer!r}"
        if self.seconds > most:
            return f"{name}: took {self.seconds:.2f} s, not at most {most:.2f} s: {self.answer!r}"
        return None


class Place:
    """A server that this test may hurt, and an empty database on it."""

    def __init__(self, server: Server, url: str) -> None:
        self.url = url
        self.kill, self.pause = server.kill, server.pause
        self._server = server

    def heal(self) -> None:
        """Let it run again."""
        if self._server.running:
            self._server.resume()
        else:
            self._server.start()


class World:
    """One server, and every operation on it, each on a warm connection of its own."""

    def __init__(self, kind: str, server: Place, operations: list[Prepared], threads: ThreadPoolExecutor) -> None:
        self.kind = kind
        self.server = server
        self.operations = operations
        self.threads = threads

    async def all(self) -> list[Outcome]:
        """Carry all out at the same time."""
        return await asyncio.gather(*(prepared.carried_out(self.threads) for prepared in self.operations))

    def judge(self, outcomes: list[Outcome], what: str, *, most: float) -> None:
        complaints = [outcome.complaint(getattr(outcome.operation, what), most) for outcome in outcomes]
        assert not any(complaints), "\n".join(filter(None, complaints))

    async def works_again(self) -> None:
        """The same objects, on the same server after its restart."""
        for prepared in self.operations:
            outcome = await prepared.carried_out(self.threads)
            assert not isinstance(outcome.answer, Exception), outcome
            assert not getattr(outcome.answer, "degraded", False), outcome
            if prepared.operation.prepare is extending:
                assert outcome.answer is True, "the lease did not survive"
            if prepared.operation.prepare is releasing:
                assert await now(Lock(prepared.db, "released").acquire(timeout=0)), "the second release did nothing"


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as pool:
        yield pool


@pytest.fixture(scope="module")
def redis_to_hurt() -> Iterator[RedisServer]:
    server = RedisServer(appendonly=True)
    yield started(server.start)
    server.stop()


@pytest.fixture(scope="module")
def postgres_to_hurt() -> Iterator[PostgresServer]:
    """Start one with a database that has all tables, to copy from."""
    server = PostgresServer()
    started(server.start)
    url = server.create_database("model")
    with holdfast.connect(url) as db:
        migrations.migrate(db)
    with psycopg.connect(url) as connection:
        connection.execute(SLOW_COMMIT)
    yield server
    server.stop()


@pytest.fixture
def server(kind: str, request: pytest.FixtureRequest) -> Iterator[Place]:
    if kind.startswith("redis"):
        redis_server: RedisServer = request.getfixturevalue("redis_to_hurt")
        redis_server.empty()
        place = Place(redis_server, redis_server.url)
    else:
        postgres: PostgresServer = request.getfixturevalue("postgres_to_hurt")
        name = f"copy_{next(_numbers)}"
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute(f"create database {name} template model")  # type: ignore[arg-type]
        place = Place(postgres, postgres.database_url(name))
    yield place
    place.heal()


@pytest.fixture
async def db(kind: str, server: Place) -> AsyncIterator[Any]:
    backend = opened(kind, server.url)
    yield backend
    await now(backend.aclose() if is_async(kind) else backend.close())


@pytest.fixture
async def world(kind: str, server: Place, threads: ThreadPoolExecutor) -> AsyncIterator[World]:
    operations = []
    for operation in ON_REDIS if kind.startswith("redis") else ON_POSTGRES:
        db = opened(kind, server.url)
        call = await operation.prepare(db, kind)
        if operation.prepare is not releasing:  # it can be done once
            await now(call())
        operations.append(Prepared(operation, db, call))
    yield World(kind, server, operations, threads)
    for prepared in operations:
        await now(prepared.db.aclose() if is_async(kind) else prepared.db.close())


@each_kind
async def test_a_server_killed_before_has_done_nothing(kind: str, world: World) -> None:
    world.server.kill()
    world.judge(await world.all(), "gone", most=GRACE)
    world.server.heal()
    await world.works_again()


@each_kind
async def test_a_server_killed_in_the_middle_may_have_done_it(kind: str, world: World) -> None:
    """It has the request, and dies before it answers."""
    world.server.pause()
    working = asyncio.ensure_future(world.all())
    await asyncio.sleep(0.2)
    assert not working.done()
    await asyncio.to_thread(world.server.kill)
    world.judge(await working, "unanswered", most=0.2 + GRACE)
    world.server.heal()
    await world.works_again()


@each_kind
async def test_a_frozen_server_is_left_at_the_deadline(kind: str, world: World) -> None:
    """It has the request, and never answers."""
    world.server.pause()
    outcomes = await world.all()
    assert [outcome for outcome in outcomes if outcome.seconds < outcome.operation.deadline * 0.9] == []
    world.judge(outcomes, "unanswered", most=DEADLINE + GRACE)
    world.server.heal()
    await world.works_again()


# -- In the middle of the user's own function --------------------------------------------------------------------------

EFFECT = "insert into effect (name) values ('done')"
# A commit that takes its time: a deferred trigger sleeps in it, if the table says so.
SLOW_COMMIT = """
create table effect (name text);
create table slow (name text);
create function slowly() returns trigger language plpgsql as
    'begin if exists (select from slow) then perform pg_sleep(5); end if; return null; end';
create constraint trigger slow after insert on effect deferrable initially deferred
    for each row execute function slowly();
"""


class Hurt:
    """Hurts a server the first time it is called."""

    def __init__(self, server: Place, how: str) -> None:
        self.server, self.how, self.done = server, how, False

    def __call__(self) -> None:
        if not self.done:
            self.done = True
            getattr(self.server, self.how)()


async def attempt(call: Call) -> tuple[Any, float]:
    """Return what came of `call`, a blocking one in this very thread, and the seconds it took."""
    begun = time.monotonic()
    try:
        answer = await now(call())
    except BackendError as error:
        answer = error
    return answer, time.monotonic() - begun


def effects(server: Place) -> int:
    with psycopg.connect(server.url) as connection:
        row = connection.execute("select count(*) from effect").fetchone()
        assert row is not None
        return int(row[0])


both_hurts = pytest.mark.parametrize("how", ["kill", "pause"])


@both_hurts
@sql_kinds
async def test_a_server_hurt_while_the_function_runs_has_kept_nothing_of_it(
    kind: str, how: str, server: Place, db: Any
) -> None:
    """The claim, the effect and the answer are one transaction; asking again does all of it, once."""
    hurt = Hurt(server, how)

    def execute() -> Any:
        return idempotent_execute(db, "key", "/payments", handler(kind, EFFECT, hurt))

    failed, seconds = await attempt(execute)
    assert type(failed) is BackendUnavailable
    assert seconds < DEADLINE + GRACE
    server.heal()
    assert await now(execute()) == await now(execute()) == "done"
    assert effects(server) == 1


@both_hurts
@each_kind
async def test_a_server_hurt_under_a_lease_tells_whether_the_answer_may_be_there(
    kind: str, how: str, server: Place, db: Any
) -> None:
    """A frozen one may have stored it; one that is gone has not."""
    hurt = Hurt(server, how)

    def execute() -> Any:
        return idempotent_execute(db, "key", "/payments", process, lease=0.5)

    def process() -> str:
        hurt()
        return "paid"

    failed, seconds = await attempt(execute)
    assert type(failed) is (OutcomeUnknown if how == "pause" else BackendUnavailable)
    assert seconds < DEADLINE + GRACE
    server.heal()
    assert await now(execute()) == "paid"


@both_hurts
@sql_kinds
async def test_a_server_hurt_while_the_relay_publishes_forgets_no_message(
    kind: str, how: str, server: Place, db: Any
) -> None:
    """The message is published again, under the same id, or is known to be published."""
    hurt = Hurt(server, how)
    target = broker(kind, hurt)
    sent = await now(Outbox(db).add("topic", 1))
    relay = Relay(db, target)
    failed, seconds = await attempt(relay.run_once)
    assert type(failed) is (OutcomeUnknown if how == "pause" else BackendUnavailable)
    assert seconds < DEADLINE + GRACE
    server.heal()
    await now(relay.run_once())
    assert set(target.published) == {sent}
    assert (await now(relay.backlog())).messages == 0


@both_hurts
@sql_kinds
async def test_a_server_hurt_while_a_message_is_handled_has_its_effect_once(
    kind: str, how: str, server: Place, db: Any
) -> None:
    """Whatever became of the commit that it did not answer, the message handed out again tells."""
    hurt = Hurt(server, how)
    messages = broker(kind, lambda: None, itertools.repeat("same"))
    consumer = Consumer(db, messages, "name", handler(kind, EFFECT, hurt), topic="topic")
    failed, seconds = await attempt(consumer.run_once)
    # Between the function and the commit there is nothing that could tell it apart from a commit that was lost.
    assert type(failed) is OutcomeUnknown
    assert seconds < DEADLINE + GRACE
    server.heal()
    assert await now(consumer.run_once()) == await now(consumer.run_once()) == 1
    assert effects(server) == 1


@both_hurts
@sql_kinds
async def test_a_server_hurt_in_the_commit_may_have_done_it(
    kind: str, how: str, server: Place, db: Any, threads: ThreadPoolExecutor
) -> None:
    """The one moment of a transaction at which nobody can know; asking again with the same key tells."""
    hurt = Hurt(server, how)

    def execute() -> Any:
        return idempotent_execute(db, "key", "/payments", handler(kind, EFFECT))

    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("insert into slow values ('yes')")
    operation = Operation(executing, OutcomeUnknown)
    working = asyncio.ensure_future(Prepared(operation, db, execute).carried_out(threads))
    await asyncio.sleep(0.2)
    assert not working.done()
    await asyncio.to_thread(hurt)
    outcome = await working
    complaint = outcome.complaint(OutcomeUnknown, DEADLINE + GRACE)
    assert complaint is None, complaint
    server.heal()
    with psycopg.connect(server.url, autocommit=True) as connection:
        # The session that still sleeps in its commit would do so for 5 s more, and the key waits for it.
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where lower(query) like 'commit%'"
            " and pid <> pg_backend_pid()"
        )
        connection.execute("delete from slow")
    assert await now(execute()) == "done"
    assert effects(server) == 1


# -- The user's own connection -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["psycopg"])
@pytest.mark.parametrize(
    "name", ["psycopg", "psycopg-autocommit", "psycopg-async", "asyncpg", "asyncpg-pool", "alchemy-session"]
)
async def test_a_connection_that_the_server_closed_has_done_nothing(name: str, server: Place) -> None:
    """What was never sent is certainly not done, the second time either."""
    async with contextlib.AsyncExitStack() as clean:
        client, commit = await clean.enter_async_context(POSTGRES_CLIENTS[name](server.url))
        outbox: Any = Outbox(client)
        await now(outbox.add("topic", 1))
        if commit is not None:
            await now(commit())
        server.kill()
        for _ in range(2):
            failed, seconds = await attempt(lambda: outbox.add("topic", 1))
            assert type(failed) is BackendUnavailable
            assert seconds < GRACE
        server.heal()
        with contextlib.suppress(Exception):  # saying goodbye on a line that is gone
            await clean.aclose()


@pytest.mark.parametrize("name", ["psycopg", "psycopg-async", "alchemy-connection"])
async def test_a_connection_that_its_owner_closed_is_refused(name: str, postgres_url: str) -> None:
    """It would fail at its first use, so it is refused at the construction."""
    async with POSTGRES_CLIENTS[name](postgres_url) as (client, _):
        await now(client.close())
        with pytest.raises(ConfigurationError, match="client that is closed is not legal: give an open"):
            Outbox(client)


async def test_a_notification_that_waits_is_no_lost_connection(postgres_url: str) -> None:
    with holdfast.connect(postgres_url) as db:
        migrations.migrate(db)
        with psycopg.connect(postgres_url, autocommit=True) as client:
            client.execute("listen news")
            db.execute("notify news")
            assert Outbox(client).add("topic", 1)
            assert [notice.channel for notice in client.notifies(timeout=1, stop_after=1)] == ["news"]
