"""A server that dies, hangs, restarts or ends sessions: the right one of the two errors, within the deadline."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
import pytest

import holdfast.backends
from holdfast.backends.migrations import migrate
from holdfast.backends.postgres import PostgresAsync
from holdfast.backends.postgres._address import parse
from holdfast.backends.postgres._connect import asyncpg_pool
from holdfast.backends.sql import Query, Statement
from holdfast.errors import BackendError, BackendUnavailable, OutcomeUnknown
from holdfast.testing.services import PostgresServer
from tests.integration.backends.sql_backends import (
    POSTGRES_CLIENTS,
    SCHEMA,
    alchemy_url,
    all_given_back,
    calling,
    entered,
    increase,
    increase_twice,
    now,
    stored,
    value,
)

DEADLINE = 0.5
# What an answer may come too late by, on a machine that does other things too.
GRACE = 0.4

SLOW_READ: Query[Any] = Query(Statement("slow read", "select pg_sleep(5)"), {})
SLOW_WRITE: Query[Any] = Query(
    Statement("slow write", "insert into holdfast_counter select 'slow', 1 from (select pg_sleep(5)) as pause"), {}
)
# A commit that takes its time: a deferred trigger sleeps in it.
SLOW_COMMIT = """
create function slowly() returns trigger language plpgsql as 'begin perform pg_sleep(5); return null; end';
create constraint trigger slow after insert on holdfast_counter deferrable initially deferred
    for each row when (new.name = 'slow commit') execute function slowly();
"""


def _url(kind: str, url: str) -> Any:
    if kind == "sync":
        return holdfast.backends.connect(url, timeout=DEADLINE)
    if kind == "async":
        return holdfast.backends.connect_async(url, timeout=DEADLINE)
    address = parse(url)
    return PostgresAsync(asyncpg_pool(address), address.place, timeout=DEADLINE)


@pytest.fixture(params=["sync", "async", "asyncpg"])
async def backend(request: pytest.FixtureRequest, own_postgres_server: PostgresServer) -> AsyncIterator[Any]:
    with holdfast.backends.connect(own_postgres_server.url) as setup:
        migrate(setup, [SCHEMA])
    with psycopg.connect(own_postgres_server.url, autocommit=True) as connection:
        connection.execute(SLOW_COMMIT)
    opened = _url(request.param, own_postgres_server.url)
    await now(opened.query(increase()))  # a connection lies in the pool
    yield opened
    await now(opened.aclose() if hasattr(opened, "aclose") else opened.close())


async def while_it_works(work: Callable[[], Any], hurt: Callable[[], Any]) -> Any:
    """Return what `work()` raised or returned, while `hurt()` was called a moment after its begin."""

    async def working() -> Any:
        try:
            return await _in_thread(work)
        except BackendError as error:
            return error

    task = asyncio.ensure_future(working())
    await asyncio.sleep(0.15)
    assert not task.done()
    await asyncio.to_thread(hurt)
    return await task


async def _in_thread(work: Callable[[], Any]) -> Any:
    # A blocking backend blocks, so it gets a thread; a coroutine must stay on this loop.
    return await now(await asyncio.to_thread(work))


def slow_commit(backend: Any) -> Callable[[], Any]:
    def steps() -> Any:
        yield from increase("slow commit")

    return lambda: backend.atomic(steps)


def in_transaction(backend: Any) -> Callable[[], Any]:
    def steps() -> Any:
        yield from increase("within")
        yield from SLOW_READ

    return lambda: backend.atomic(steps)


def of_kind(error: object, kind: type[BackendError]) -> None:
    assert type(error) is kind, repr(error)


async def test_killed_in_a_read_nothing_was_done(backend: Any, own_postgres_server: PostgresServer) -> None:
    of_kind(await while_it_works(lambda: backend.query(SLOW_READ), own_postgres_server.kill), BackendUnavailable)


async def test_killed_in_a_write_by_itself_it_may_have_been_done(
    backend: Any, own_postgres_server: PostgresServer
) -> None:
    of_kind(await while_it_works(lambda: backend.query(SLOW_WRITE), own_postgres_server.kill), OutcomeUnknown)


async def test_killed_before_commit_nothing_was_done(backend: Any, own_postgres_server: PostgresServer) -> None:
    of_kind(await while_it_works(in_transaction(backend), own_postgres_server.kill), BackendUnavailable)
    own_postgres_server.restart()
    assert await asyncio.to_thread(stored, own_postgres_server.url, "within") is None


async def test_killed_in_commit_it_may_have_been_done(backend: Any, own_postgres_server: PostgresServer) -> None:
    of_kind(await while_it_works(slow_commit(backend), own_postgres_server.kill), OutcomeUnknown)


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ("read", BackendUnavailable),
        ("write", OutcomeUnknown),
        ("before", BackendUnavailable),
        ("commit", OutcomeUnknown),
    ],
)
async def test_a_server_that_hangs_is_left_within_the_deadline(
    backend: Any, own_postgres_server: PostgresServer, what: str, kind: type[BackendError]
) -> None:
    work = {
        "read": lambda: backend.query(value()),
        "write": lambda: backend.query(increase()),
        "before": lambda: backend.atomic(increase_twice),
        "commit": slow_commit(backend),
    }[what]
    if what != "commit":
        own_postgres_server.pause()
    begun = time.monotonic()
    with pytest.raises(kind) as caught:
        await now(await asyncio.to_thread(work)) if what != "commit" else await _paused(work, own_postgres_server)
    assert type(caught.value) is kind
    assert time.monotonic() - begun < DEADLINE + GRACE
    own_postgres_server.resume()
    assert await now(backend.query(value())) is not None


async def _paused(work: Callable[[], Any], server: PostgresServer) -> Any:
    answer = await while_it_works(work, server.pause)
    if isinstance(answer, Exception):
        raise answer
    return answer


async def test_a_server_that_cannot_be_reached_is_a_refusal(backend: Any, own_postgres_server: PostgresServer) -> None:
    own_postgres_server.kill()
    begun = time.monotonic()
    for ask in (lambda: backend.query(increase()), lambda: backend.atomic(increase_twice)):
        with pytest.raises(BackendUnavailable):
            await now(ask())
    assert time.monotonic() - begun < 2 * (DEADLINE + GRACE)


async def test_a_hanging_server_cannot_be_connected_to_within_the_deadline(
    own_postgres_server: PostgresServer,
) -> None:
    own_postgres_server.pause()
    for kind in ("sync", "async", "asyncpg"):
        backend = _url(kind, own_postgres_server.url)
        begun = time.monotonic()
        with pytest.raises(BackendUnavailable):
            await now(backend.query(increase()))
        assert time.monotonic() - begun < DEADLINE + GRACE
    own_postgres_server.resume()


@pytest.mark.parametrize("kind", ["sync", "async", "asyncpg"])
async def test_waiting_for_a_place_and_connecting_share_one_deadline(
    own_postgres_server: PostgresServer, kind: str
) -> None:
    backend = _url(kind, own_postgres_server.url + "?max_connections=1")
    own_postgres_server.pause()

    async def take(delay: float) -> float:
        await asyncio.sleep(delay)
        begun = time.monotonic()
        with pytest.raises(BackendUnavailable):
            await _in_thread(lambda: backend.query(increase()))
        return time.monotonic() - begun

    # The second gets the place just before its time is over; connecting may not take as much again.
    assert max(await asyncio.gather(take(0.0), take(DEADLINE / 5))) < DEADLINE + GRACE
    own_postgres_server.resume()


@pytest.mark.parametrize("name", ["psycopg", "psycopg-async"])
async def test_a_statement_and_its_commit_share_one_deadline(postgres_url: str, name: str) -> None:
    with holdfast.backends.connect(postgres_url) as setup:
        migrate(setup, [SCHEMA])
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(SLOW_COMMIT)
    slow = Statement(
        "slow", "insert into holdfast_counter select 'slow commit', 1 from (select pg_sleep(0.7)) as pause"
    )
    async with POSTGRES_CLIENTS[name](postgres_url) as (client, _):
        backend: Any = holdfast.backends.adopt(client, timeout=1.0)
        begun = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            await now(backend.query(Query(slow, {})))
        assert time.monotonic() - begun < 1.0 + GRACE


async def test_a_restart_between_two_calls_goes_unnoticed(backend: Any, own_postgres_server: PostgresServer) -> None:
    await asyncio.to_thread(own_postgres_server.restart)
    assert await now(backend.query(increase())) == 2
    assert await now(backend.atomic(increase_twice)) == 4


async def test_sessions_ended_while_idle_go_unnoticed(backend: Any, own_postgres_server: PostgresServer) -> None:
    end_all_sessions(own_postgres_server)
    assert await now(backend.query(increase())) == 2


async def test_a_session_ended_in_a_transaction_leaves_nothing(
    backend: Any, own_postgres_server: PostgresServer
) -> None:
    end = lambda: end_all_sessions(own_postgres_server)  # noqa: E731
    of_kind(await while_it_works(in_transaction(backend), end), BackendUnavailable)
    of_kind(await while_it_works(lambda: backend.query(SLOW_WRITE), end), OutcomeUnknown)
    assert await now(backend.query(value("within"))) is None
    with pytest.raises(BackendUnavailable):  # noqa: PT012 - the block is what is tested
        async with entered(backend.transaction()) as tx:
            await now(tx.query(increase("within")))
            end_all_sessions(own_postgres_server)
            await now(tx.query(increase("within")))
    assert await now(backend.query(value("within"))) is None


def end_all_sessions(server: PostgresServer) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where pid <> pg_backend_pid() and backend_type = 'client backend'"
        )
        while connection.execute(
            "select 1 from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'"
        ).fetchone():
            time.sleep(0.005)


async def test_a_read_only_server_refuses(backend: Any, own_postgres_server: PostgresServer) -> None:
    with psycopg.connect(own_postgres_server.url, autocommit=True) as connection:
        connection.execute("alter database postgres set default_transaction_read_only = on")
    end_all_sessions(own_postgres_server)
    with pytest.raises(BackendUnavailable, match="read-only"):
        await now(backend.query(increase()))


@pytest.mark.parametrize("name", ["psycopg", "psycopg-async", "asyncpg", "psycopg-pool", "alchemy-session",
                                  "alchemy-asyncpg-session", "alchemy-psycopg-session"])  # fmt: skip
async def test_a_hanging_server_is_left_by_the_users_own_client_too(
    own_postgres_server: PostgresServer, name: str
) -> None:
    with holdfast.backends.connect(own_postgres_server.url) as setup:
        migrate(setup, [SCHEMA])
    clean = contextlib.AsyncExitStack()
    client, _ = await clean.enter_async_context(POSTGRES_CLIENTS[name](own_postgres_server.url))
    backend: Any = holdfast.backends.adopt(client, timeout=DEADLINE)
    await now(backend.query(increase()))
    own_postgres_server.pause()
    begun = time.monotonic()
    with pytest.raises(BackendError):
        await now(await asyncio.to_thread(lambda: backend.query(increase())))
    assert time.monotonic() - begun < DEADLINE + GRACE
    own_postgres_server.resume()
    with contextlib.suppress(Exception):
        await clean.aclose()


@pytest.mark.parametrize("pre_ping", [False, True])
@pytest.mark.parametrize("driver", ["blocking", "psycopg", "asyncpg"])
async def test_a_hanging_server_is_left_by_an_engine_that_connects(
    own_postgres_server: PostgresServer, driver: str, *, pre_ping: bool
) -> None:
    from sqlalchemy import create_engine
    from sqlalchemy.ext.asyncio import create_async_engine

    with holdfast.backends.connect(own_postgres_server.url) as setup:
        migrate(setup, [SCHEMA])
    make = create_engine if driver == "blocking" else create_async_engine
    url = alchemy_url(own_postgres_server.url, "psycopg" if driver == "blocking" else driver)
    engine: Any = make(url, pool_size=1, max_overflow=0, pool_pre_ping=pre_ping)
    backend: Any = holdfast.backends.adopt(engine, timeout=DEADLINE)
    if pre_ping:
        await now(backend.query(increase()))
    own_postgres_server.pause()
    for _ in range(2):
        begun = time.monotonic()
        with pytest.raises(BackendUnavailable):
            await now(backend.query(increase()))
        assert time.monotonic() - begun < DEADLINE + GRACE
    own_postgres_server.resume()
    assert await now(backend.within(15.0).query(increase())) == 1 + pre_ping
    await all_given_back(backend)
    await now(engine.dispose())


# -- One connection that several threads or tasks share ----------------------------------------------------------------

SHARED = ["psycopg-autocommit", "psycopg-async-autocommit", "asyncpg"]


@contextlib.asynccontextmanager
async def shared(name: str, url: str) -> AsyncIterator[Any]:
    """Yield a connection of the user's in autocommit mode."""
    async with POSTGRES_CLIENTS[name.replace("async-autocommit", "async")](url) as (client, _):
        if name == "psycopg-async-autocommit":
            await client.set_autocommit(True)
        yield client


@pytest.fixture
def tables(postgres_url: str) -> str:
    with holdfast.backends.connect(postgres_url) as setup:
        migrate(setup, [SCHEMA])
        increase().carry(setup)
    return postgres_url


@pytest.mark.parametrize("name", SHARED)
async def test_the_end_of_one_call_leaves_the_others_their_deadlines(tables: str, name: str) -> None:
    async with shared(name, tables) as client:
        # Patterns adopt the connection each for itself.
        quick, slow = (holdfast.backends.adopt(client, timeout=DEADLINE) for _ in range(2))
        with psycopg.connect(tables) as other:
            other.execute("select * from holdfast_counter for update")
            begun = time.monotonic()
            answers = await asyncio.gather(
                _in_thread(lambda: value().carry(quick)),
                _in_thread(lambda: increase().carry(slow)),
                return_exceptions=True,
            )
            assert time.monotonic() - begun < DEADLINE + GRACE
    assert answers[0] == 1 or isinstance(answers[0], BackendUnavailable)
    assert isinstance(answers[1], BackendError)


@pytest.mark.parametrize("kind", ["async", "asyncpg"])
async def test_tasks_that_share_a_transaction_keep_their_deadlines(tables: str, kind: str) -> None:
    async with _url(kind, tables) as backend:
        with psycopg.connect(tables) as other:
            other.execute("select * from holdfast_counter for update")
            begun = time.monotonic()
            with pytest.raises(BackendUnavailable):
                async with backend.transaction() as tx:
                    await asyncio.gather(tx.query(value()), tx.query(increase()))
            assert time.monotonic() - begun < DEADLINE + GRACE


@pytest.mark.parametrize("name", SHARED)
async def test_what_waited_behind_a_lost_statement_was_not_sent(own_postgres_server: PostgresServer, name: str) -> None:
    with holdfast.backends.connect(own_postgres_server.url) as setup:
        migrate(setup, [SCHEMA])
    async with shared(name, own_postgres_server.url) as client:
        backend: Any = holdfast.backends.adopt(client, timeout=DEADLINE)
        await now(backend.query(increase()))
        own_postgres_server.pause()
        begun = time.monotonic()
        answers = await asyncio.gather(
            *(_in_thread(lambda: backend.query(increase())) for _ in range(3)), return_exceptions=True
        )
        assert time.monotonic() - begun < DEADLINE + GRACE
        own_postgres_server.resume()
    assert sorted(type(answer).__name__ for answer in answers) == ["BackendUnavailable"] * 2 + ["OutcomeUnknown"]


@pytest.mark.parametrize("name", SHARED)
async def test_a_connection_that_the_user_keeps_busy_is_a_refusal_and_stays(tables: str, name: str) -> None:
    async with shared(name, tables) as client:
        backend: Any = holdfast.backends.adopt(client, timeout=0.3)
        users = asyncio.ensure_future(_in_thread(lambda: client.execute("select pg_sleep(2.0)")))
        await asyncio.sleep(0.1)
        for ask in (lambda: backend.query(increase()), lambda: backend.atomic(increase_twice)):
            begun = time.monotonic()
            with pytest.raises(BackendUnavailable):
                await _in_thread(ask)
            assert time.monotonic() - begun < 0.3 + GRACE
        await users
        assert await now(backend.query(value())) == 1


# -- Cancellation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["async", "asyncpg"])
async def test_cancelled_tasks_leave_no_transaction_behind(postgres_url: str, kind: str) -> None:
    with holdfast.backends.connect(postgres_url) as setup:
        migrate(setup, [SCHEMA])

    async def slowly(tx: Any) -> None:
        await tx.query(increase("b"))
        await asyncio.sleep(0.002)

    async with _url(kind, postgres_url) as backend:
        for number in range(120):
            task = asyncio.ensure_future(backend.atomic(calling(slowly)))
            await asyncio.sleep(number % 30 * 0.0004)
            task.cancel()
            await asyncio.wait([task])
        assert await backend.query(value("a")) == await backend.query(value("b"))
        idle = await backend.execute(
            "select count(*) from pg_stat_activity where state like 'idle in transaction%' "
            "and datname = current_database()"
        )
        assert idle == [(0,)]


@pytest.mark.parametrize("kind", ["async", "asyncpg"])
async def test_a_cancelled_statement_is_cancelled_in_the_server(postgres_url: str, kind: str) -> None:
    async with _url(kind, postgres_url).within(5.0) as backend:
        task = asyncio.ensure_future(backend.query(SLOW_READ))
        await asyncio.sleep(0.1)
        begun = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - begun < 1.0
        assert await backend.execute(
            "select count(*) from pg_stat_activity where query like '%pg_sleep(5)%' and pid <> pg_backend_pid()"
            " and state = 'active'"
        ) == [(0,)]


@pytest.mark.parametrize("number", [signal.SIGKILL])
async def test_one_backend_process_that_is_killed_takes_all_with_it(
    backend: Any, own_postgres_server: PostgresServer, number: int
) -> None:
    with psycopg.connect(own_postgres_server.url) as victim:
        os.kill(victim.info.backend_pid, number)

        async def again() -> int | None:
            for _ in range(100):
                try:
                    return await now(backend.query(value()))  # type: ignore[no-any-return]
                except BackendUnavailable:
                    await asyncio.sleep(0.05)
            return None

        assert await again() == 1
