"""PostgreSQL in use: conflicts begin again, pools are bounded, forks and loops get connections of their own."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

import holdfast.backends
from holdfast.backends._links import Conflict
from holdfast.backends.migrations import migrate
from holdfast.backends.sql import Query, Statement
from holdfast.errors import BackendUnavailable, ConfigurationError, OutcomeUnknown
from holdfast.operations import Run, Steps
from tests.integration.backends.sql_backends import (
    POSTGRES_CLIENTS,
    SCHEMA,
    calling,
    entered,
    gathered,
    increase,
    now,
    prepare,
    value,
)

SERIALIZABLE: Query[Any] = Query(Statement("isolation", "set transaction isolation level serializable"), {})


@pytest.fixture
def url(postgres_url: str) -> str:
    return prepare(postgres_url)


@pytest.fixture(params=["sync", "async"])
async def backend(request: pytest.FixtureRequest, url: str) -> AsyncIterator[Any]:
    if request.param == "sync":
        with holdfast.backends.connect(url) as opened:
            yield opened
    else:
        async with holdfast.backends.connect_async(url) as opened_async:
            yield opened_async


def interfering(url: str, times: int) -> Any:
    """Return steps that somebody else disturbs `times` times, and how often they were begun."""
    begun = []

    def steps() -> Steps[int]:
        begun.append(1)
        yield from SERIALIZABLE
        yield from value()
        if len(begun) <= times:
            with psycopg.connect(url) as other:
                other.execute("update holdfast_counter set value = value + 100")
        return (yield from increase())

    return steps, begun


async def test_a_transaction_that_must_give_way_begins_again(backend: Any, url: str) -> None:
    await now(backend.query(increase()))
    steps, begun = interfering(url, 2)
    assert await now(backend.atomic(steps)) == 202
    assert len(begun) == 3


async def test_a_transaction_begins_again_a_bounded_number_of_times(backend: Any, url: str) -> None:
    await now(backend.query(increase()))
    steps, begun = interfering(url, 1000)
    with pytest.raises(BackendUnavailable, match="gave way"):
        await now(backend.atomic(steps))
    assert len(begun) == 6


async def test_the_users_function_is_never_called_twice(backend: Any, url: str) -> None:
    await now(backend.query(increase()))
    steps, begun = interfering(url, 1)
    called = []

    def with_function() -> Steps[int]:
        yield from Run(lambda: called.append(1))
        return (yield from steps())

    with pytest.raises(BackendUnavailable, match="gave way"):
        await now(backend.atomic(with_function))
    assert len(called) == len(begun) == 1


async def test_a_function_that_did_not_answer_in_time_may_have_written(backend: Any) -> None:
    await now(backend.execute("create function slow() returns void language sql as 'select pg_sleep(5)'"))
    with pytest.raises(OutcomeUnknown):
        await now(backend.within(0.2).execute("select slow()"))


async def test_nothing_is_left_open_when_everybody_is_done(backend: Any) -> None:
    await now(backend.atomic(calling(lambda tx: tx.execute("select 1"))))
    idle = "select count(*) from pg_stat_activity where state like 'idle in%' and datname = current_database()"
    assert await now(backend.execute(idle)) == [(0,)]


async def test_connections_are_bounded_and_lent_in_order(url: str) -> None:
    async with holdfast.backends.connect_async(f"{url}?max_connections=2") as backend:
        answers = await gathered(60, lambda _: backend.query(increase()))  # type: ignore[attr-defined]
        assert answers == list(range(1, 61)) or sorted(answers) == list(range(1, 61))
        rows = await backend.execute(  # type: ignore[attr-defined]
            "select count(*) from pg_stat_activity where application_name = 'holdfast' and datname = current_database()"
        )
        assert rows[0][0] <= 2


async def test_a_full_pool_is_a_refusal_within_the_deadline(url: str) -> None:
    with holdfast.backends.connect(f"{url}?max_connections=1", timeout=0.3) as backend:
        with backend.transaction():  # type: ignore[attr-defined]
            answers: list[BaseException] = []

            def ask() -> None:
                try:
                    backend.query(increase())  # type: ignore[attr-defined]
                except BackendUnavailable as error:
                    answers.append(error)

            thread = threading.Thread(target=ask)
            thread.start()
            await asyncio.to_thread(thread.join)
        assert "all 1 connections stayed in use" in str(answers[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_works_on_connections_of_its_own(url: str) -> None:
    with holdfast.backends.connect(url) as opened:
        backend: Any = opened
        pid = backend.execute("select pg_backend_pid()")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                fresh = backend.execute("select pg_backend_pid()") != pid and backend.query(increase()) == 1
                code = 0 if fresh else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert backend.execute("select pg_backend_pid()") == pid
        assert backend.query(increase()) == 2


def test_a_backend_serves_one_event_loop_after_another(url: str) -> None:
    backend: Any = holdfast.backends.connect_async(url)

    async def once() -> int:
        return await backend.query(increase())  # type: ignore[no-any-return]

    assert [asyncio.run(once()) for _ in range(3)] == [1, 2, 3]
    asyncio.run(backend.aclose())


def test_an_open_transaction_of_the_users_is_joined(url: str) -> None:
    with holdfast.backends.connect(url) as outside, psycopg.connect(url) as connection:
        mine: Any = holdfast.backends.adopt(connection)
        connection.execute("select 1")
        assert mine.query(increase()) == 1
        assert value().carry(outside) is None
        connection.rollback()
        assert value().carry(outside) is None
        with connection.transaction():
            mine.atomic(lambda: (yield from increase()))
            assert value().carry(outside) is None
        assert value().carry(outside) == 1


@pytest.mark.parametrize("name", ["psycopg-autocommit", "asyncpg", "alchemy-session", "alchemy-psycopg-session"])
async def test_a_conflict_in_the_users_transaction_is_told_once_with_its_cause(url: str, name: str) -> None:
    async with POSTGRES_CLIENTS[name](url) as (client, commit):
        mine: Any = holdfast.backends.adopt(client)
        if commit is None:
            await now(client.execute("begin isolation level repeatable read"))
        else:
            await now(mine.execute("set transaction isolation level repeatable read"))
        await now(mine.query(value()))
        with holdfast.backends.connect(url) as other:
            increase().carry(other)
        with pytest.raises(Conflict) as caught:
            await now(mine.query(increase()))
        assert "could not serialize access" in str(caught.value.__cause__)
        await now(client.execute("rollback") if commit is None else client.rollback())


def test_the_users_row_factory_is_kept(url: str) -> None:
    from psycopg.rows import dict_row

    with psycopg.connect(url, row_factory=dict_row) as connection:
        mine: Any = holdfast.backends.adopt(connection)
        assert mine.execute("select 1 as one") == [(1,)]
        assert connection.execute("select 1 as one").fetchone() == {"one": 1}


def test_statements_are_not_prepared_behind_a_pgbouncer(url: str) -> None:
    with holdfast.backends.connect(f"{url}?prepare_threshold=none&max_connections=1") as opened:
        backend: Any = opened
        for _ in range(10):
            backend.query(value())
        assert backend.execute("select count(*) from pg_prepared_statements") == [(0,)]


def test_something_else_of_these_packages_is_refused_at_once(url: str) -> None:
    with psycopg.connect(url) as connection, pytest.raises(ConfigurationError, match=r"psycopg\.Cursor"):
        holdfast.backends.adopt(connection.cursor())


async def test_two_migrations_at_once_do_the_work_once(postgres_url: str) -> None:
    def run() -> list[tuple[str, int]]:
        with holdfast.backends.connect(postgres_url) as backend:
            return migrate(backend, [SCHEMA])

    applied = await gathered(4, lambda _: asyncio.to_thread(run))
    assert sorted(applied) == [[], [], [], [("counters", 1)]]


async def sessions(url: str) -> int:
    """Return how many sessions of holdfast the server still has, once those that said goodbye are gone."""
    with psycopg.connect(url, autocommit=True) as server:
        for _ in range(100):
            row = server.execute(
                "select count(*) from pg_stat_activity"
                " where application_name = 'holdfast' and datname = current_database()"
            ).fetchone()
            assert row is not None
            if row[0] == 0:
                return 0
            await asyncio.sleep(0.02)
        return int(row[0])


async def test_what_is_in_use_while_a_backend_is_closed_is_closed_afterwards(backend: Any, url: str) -> None:
    async with entered(backend.transaction()) as tx:
        await now(tx.query(increase()))
        await now(backend.aclose() if hasattr(backend, "aclose") else backend.close())
    assert await sessions(url) == 0
    assert await now(backend.query(value())) == 1, "closing ends connections, not the backend"
    assert await sessions(url) == 0
