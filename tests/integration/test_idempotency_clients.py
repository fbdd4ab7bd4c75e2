"""The quick start's line runs with every client, and never commits what is the user's to commit."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import psycopg_pool
import pytest
import redis
import redis.asyncio
import sqlalchemy.ext.asyncio
import sqlalchemy.orm

from holdfast import backends
from holdfast.backends import migrations
from holdfast.errors import ConfigurationError, KeyInProgress
from holdfast.idempotency import _execution, idempotent_execute

INSERT = "insert into effect (name) values ('paid')"


@pytest.fixture
def migrated_url(postgres_url: str) -> str:
    with backends.connect(postgres_url) as db:
        backend: Any = db
        migrations.migrate(backend)
        backend.execute("create table effect (name text)")
    return postgres_url


@pytest.fixture
async def closing() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def effects(url: str) -> int:
    with psycopg.connect(url) as connection:
        (count,) = connection.execute("select count(*) from effect").fetchone()  # type: ignore[misc]
        return int(count)


def stored_keys(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [key for (key,) in connection.execute("select key from holdfast_idempotency order by key")]


# -- Every client: how to open it, how to write with it, how to end its transaction

Client = tuple[Any, Callable[[], Awaitable[Any]], Callable[[], Awaitable[Any]], Callable[[], Awaitable[Any]]]


def _sqlalchemy_url(url: str, driver: str) -> str:
    return url.replace("postgresql://", f"postgresql+{driver}://", 1)


async def _async_session(url: str, closing: AsyncExitStack, driver: str = "psycopg") -> Client:
    engine = sqlalchemy.ext.asyncio.create_async_engine(_sqlalchemy_url(url, driver))
    closing.push_async_callback(engine.dispose)
    session = await closing.enter_async_context(sqlalchemy.ext.asyncio.AsyncSession(engine))
    return session, lambda: session.execute(sqlalchemy.text(INSERT)), session.commit, session.rollback


async def _async_session_asyncpg(url: str, closing: AsyncExitStack) -> Client:
    return await _async_session(url, closing, "asyncpg")


async def _psycopg(url: str, closing: AsyncExitStack) -> Client:
    connection = await closing.enter_async_context(await psycopg.AsyncConnection.connect(url))
    await connection.execute("select 1")  # which begins a transaction
    return connection, lambda: connection.execute(INSERT), connection.commit, connection.rollback


async def _asyncpg(url: str, closing: AsyncExitStack) -> Client:
    connection = await asyncpg.connect(url)
    closing.push_async_callback(connection.close)
    transaction = connection.transaction()
    await transaction.start()
    return connection, lambda: connection.execute(INSERT), transaction.commit, transaction.rollback


OPEN = [_async_session, _async_session_asyncpg, _psycopg, _asyncpg]
each_client = pytest.mark.parametrize("opened", OPEN, ids=[one.__name__.strip("_") for one in OPEN])


@each_client
async def test_effect_and_answer_wait_for_the_users_commit(
    opened: Callable[..., Awaitable[Client]], migrated_url: str, closing: AsyncExitStack
) -> None:
    """What the user rolls back did not happen, and the key is free; what the user commits is replayed."""
    runs = 0

    async def request(end: str) -> Any:
        db, write, commit, roll_back = await opened(migrated_url, closing)

        async def process() -> dict[str, str]:
            nonlocal runs
            runs += 1
            await write()
            return {"status": "paid"}

        answer = await idempotent_execute(db, "key", "/payments", process)
        assert effects(migrated_url) == (1 if runs == 0 or end == "replay" else 0)
        await (roll_back() if end == "rollback" else commit())
        return answer

    assert await request("rollback") == {"status": "paid"}
    assert effects(migrated_url) == 0
    assert await request("commit") == {"status": "paid"}
    assert await request("replay") == {"status": "paid"}
    assert (runs, effects(migrated_url)) == (2, 1)


@each_client
async def test_a_failure_leaves_the_users_transaction_usable(
    opened: Callable[..., Awaitable[Client]], migrated_url: str, closing: AsyncExitStack
) -> None:
    """Only what the function wrote is undone, not what was written before."""
    db, write, commit, _ = await opened(migrated_url, closing)

    async def process() -> None:
        await write()
        raise ValueError("declined")

    await write()
    with pytest.raises(ValueError, match="declined"):
        await idempotent_execute(db, "key", "/payments", process)
    await write()
    await commit()
    assert effects(migrated_url) == 2


@each_client
async def test_a_second_session_waits_for_the_first_ones_commit(
    opened: Callable[..., Awaitable[Client]], migrated_url: str, closing: AsyncExitStack
) -> None:
    """Until the first transaction ends nobody else executes; then the second gets the stored answer."""
    first_db, write, commit, _ = await opened(migrated_url, closing)
    second_db, *_ = await opened(migrated_url, closing)

    async def process() -> str:
        await write()
        return "first"

    async def never() -> str:
        raise AssertionError("executed twice")

    assert await idempotent_execute(first_db, "key", "/payments", process) == "first"
    with pytest.raises(KeyInProgress):
        await idempotent_execute(second_db, "key", "/payments", never, wait=0.05)
    waiting = asyncio.ensure_future(idempotent_execute(second_db, "key", "/payments", never, wait=20.0))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await commit()
    assert await waiting == "first"
    assert effects(migrated_url) == 1


@each_client
async def test_a_session_cannot_hold_a_lease(
    opened: Callable[..., Awaitable[Client]], migrated_url: str, closing: AsyncExitStack
) -> None:
    """A claim that is not committed is invisible, so it is refused with the way out."""
    db, *_ = await opened(migrated_url, closing)
    for options in ({"lease": 5.0}, {"commit": lambda tx, result: None}):
        with pytest.raises(ConfigurationError, match="one connection or session: give"):
            await idempotent_execute(db, "key", "/payments", _paid, **options)


@each_client
async def test_expired_answers_are_removed_by_the_users_transaction(
    opened: Callable[..., Awaitable[Client]],
    migrated_url: str,
    closing: AsyncExitStack,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who executes in sessions only keeps no answers for ever, and the session's own work is not touched."""
    monkeypatch.setattr(_execution, "PRUNE_ONE_IN", 1)
    with backends.connect(migrated_url) as blocking:
        for key in ("one", "two"):
            idempotent_execute(blocking, key, "/payments", lambda: "old", ttl=0.001)
    db, write, commit, _ = await opened(migrated_url, closing)
    await write()
    await asyncio.sleep(0.01)
    assert await idempotent_execute(db, "key", "/payments", _paid) == "paid"
    await write()
    await commit()
    assert stored_keys(migrated_url) == ["key"]
    assert effects(migrated_url) == 2


async def _paid() -> str:
    return "paid"


async def test_pools_and_engines_hold_a_lease(migrated_url: str, closing: AsyncExitStack) -> None:
    """They can open transactions of their own: the hook's effect is stored with the answer, once for all of them."""
    pool = await closing.enter_async_context(psycopg_pool.AsyncConnectionPool(migrated_url, open=False))
    asyncpg_pool = await asyncpg.create_pool(migrated_url)
    closing.push_async_callback(asyncpg_pool.close)
    engine = sqlalchemy.ext.asyncio.create_async_engine(_sqlalchemy_url(migrated_url, "psycopg"))
    closing.push_async_callback(engine.dispose)

    async def record(tx: Any, answer: str) -> None:
        assert answer == "paid"
        await tx.execute(INSERT)

    for number, db in enumerate([pool, asyncpg_pool, engine]):
        for key in ("shared", f"own-{number}"):
            client: Any = db
            assert await idempotent_execute(client, key, "/payments", _paid, commit=record) == "paid"
    assert effects(migrated_url) == 1 + 3


# -- Blocking clients ------------------------------------------------------------


def test_a_blocking_session(migrated_url: str) -> None:
    engine = sqlalchemy.create_engine(_sqlalchemy_url(migrated_url, "psycopg"))
    for _ in range(2):
        with sqlalchemy.orm.Session(engine) as session, session.begin():

            def process(session: sqlalchemy.orm.Session = session) -> str:
                session.execute(sqlalchemy.text(INSERT))
                return "paid"

            assert idempotent_execute(session, "key", "/payments", process) == "paid"
    engine.dispose()
    assert effects(migrated_url) == 1


def test_a_blocking_connection_without_a_transaction(migrated_url: str) -> None:
    """Then holdfast begins and commits one, which what is written on the connection is part of."""
    with psycopg.connect(migrated_url) as connection:
        for _ in range(2):

            def process() -> str:
                connection.execute(INSERT)
                return "paid"

            assert idempotent_execute(connection, "key", "/payments", process) == "paid"
            assert effects(migrated_url) == 1


@pytest.mark.parametrize("begun", [True, False], ids=["in a transaction", "idle"])
def test_a_connection_of_sqlite3(tmp_path: Path, *, begun: bool) -> None:
    connection = sqlite3.connect(tmp_path / "db")
    connection.execute("create table effect (name text)")
    connection.commit()

    def process() -> str:
        connection.execute(INSERT)
        return "paid"

    for _ in range(2):
        if begun:
            connection.execute("begin immediate")
        assert idempotent_execute(connection, "key", "/payments", process) == "paid"
        assert connection.in_transaction == begun
        connection.commit()
    assert connection.execute("select count(*) from effect").fetchone() == (1,)
    connection.close()


@pytest.mark.parametrize("begun", [True, False], ids=["in a transaction", "idle"])
def test_expired_answers_are_removed_on_a_connection_of_sqlite3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, begun: bool
) -> None:
    monkeypatch.setattr(_execution, "PRUNE_ONE_IN", 1)
    connection = sqlite3.connect(tmp_path / "db")
    for key, ttl in (("one", 0.001), ("two", 0.001), ("three", 60.0)):
        if begun:
            connection.execute("begin immediate")
        assert idempotent_execute(connection, key, "/payments", lambda: "paid", ttl=ttl) == "paid"
        connection.commit()
        time.sleep(0.01)
    assert connection.execute("select key from holdfast_idempotency").fetchall() == [("three",)]
    connection.close()


async def test_a_session_on_sqlite(tmp_path: Path) -> None:
    """SQLAlchemy's own transaction on SQLite is joined as well."""
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/db")
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("create table effect (name text)"))
    for end in ("rollback", "commit", "commit"):
        with sqlalchemy.orm.Session(engine) as session:

            def process(session: sqlalchemy.orm.Session = session) -> str:
                session.execute(sqlalchemy.text(INSERT))
                return "paid"

            assert idempotent_execute(session, "key", "/payments", process) == "paid"
            session.rollback() if end == "rollback" else session.commit()
    with engine.begin() as connection:
        assert connection.execute(sqlalchemy.text("select count(*) from effect")).scalar() == 1
    engine.dispose()


async def test_clients_of_redis(redis_url: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        assert await idempotent_execute(client, "key", "/payments", _paid) == "paid"
    with redis.Redis.from_url(redis_url) as blocking:
        assert idempotent_execute(blocking, "key", "/payments", lambda: "again") == "paid"
        (key,) = blocking.keys("*")  # type: ignore[misc]
        assert 0 < blocking.ttl(key) <= 86_400  # type: ignore[operator]
