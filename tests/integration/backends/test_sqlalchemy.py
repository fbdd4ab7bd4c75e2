"""SQLAlchemy: the session's transaction is joined and never committed, and its objects stay right."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

import holdfast.backends
from holdfast.errors import BackendUnavailable, ConfigurationError
from holdfast.operations import Atomic, Run, Steps
from tests.integration.backends.sql_backends import (
    alchemy_url,
    all_given_back,
    increase,
    increase_and_fail,
    prepare,
    stored,
    value,
)


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return prepare(f"sqlite:///{tmp_path / 'test.db'}")
    return prepare(request.getfixturevalue("postgres_url"))


@pytest.fixture
def engine(url: str) -> Iterator[Any]:
    made = create_engine(alchemy_url(url, "psycopg"))
    Base.metadata.create_all(made)
    yield made
    made.dispose()


def test_orders_and_counters_are_committed_together(engine: Any, url: str) -> None:
    with Session(engine) as session, session.begin():
        session.add(Order(id=1, state="new"))
        adopted: Any = holdfast.backends.adopt(session)
        assert adopted.query(increase()) == 1
    assert stored(url) == 1
    with Session(engine) as session:
        assert session.scalars(select(Order.state)).all() == ["new"]


def test_orders_and_counters_are_undone_together(engine: Any, url: str) -> None:
    with Session(engine) as session:
        session.add(Order(id=1, state="new"))
        adopted: Any = holdfast.backends.adopt(session)
        adopted.query(increase())
        session.rollback()
    assert stored(url) is None


def test_objects_whose_rows_were_undone_are_forgotten(engine: Any) -> None:
    def pay(session: Session) -> None:
        session.get_one(Order, 1).state = "paid"
        session.flush()
        raise KeyError("as the test wants it")

    with Session(engine) as session:
        session.add(Order(id=1, state="new"))
        session.flush()
        adopted: Any = holdfast.backends.adopt(session)

        def part() -> Steps[None]:
            yield from increase()
            yield from Run(pay, session)

        def steps() -> Steps[int | None]:
            with contextlib.suppress(KeyError):
                yield from Atomic(part)
            return (yield from value())

        assert adopted.atomic(steps) is None
        assert session.get_one(Order, 1).state == "new"
        session.commit()
        assert session.get_one(Order, 1).state == "new"


def test_a_connection_is_joined(engine: Any, url: str) -> None:
    with engine.begin() as connection:
        adopted: Any = holdfast.backends.adopt(connection)
        adopted.query(increase())
        assert stored(url) is None
    assert stored(url) == 1


def test_a_registry_of_sessions_is_refused_and_its_session_is_joined(engine: Any, url: str) -> None:
    registry = scoped_session(sessionmaker(engine))
    with pytest.raises(ConfigurationError, match=r"scoped_session is not legal: .*registry\(\)"):
        holdfast.backends.adopt(registry)
    with pytest.raises(ConfigurationError, match="async_scoped_session is not legal"):
        holdfast.backends.adopt(async_scoped_session(async_sessionmaker(), scopefunc=asyncio.current_task))
    adopted: Any = holdfast.backends.adopt(registry())
    adopted.query(increase())
    registry.commit()
    registry.remove()
    assert stored(url) == 1


# -- AUTOCOMMIT --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["for all connections", "for this engine"])
def test_an_engine_in_autocommit_mode_gets_transactions_for_holdfast_alone(engine: Any, url: str, how: str) -> None:
    automatic = engine.execution_options(isolation_level="AUTOCOMMIT")
    if how == "for all connections":
        automatic = create_engine(alchemy_url(url, "psycopg"), isolation_level="AUTOCOMMIT")
    adopted: Any = holdfast.backends.adopt(automatic)
    with pytest.raises(KeyError):
        adopted.atomic(increase_and_fail)
    assert stored(url) is None
    assert adopted.query(increase()) == 1
    with automatic.connect() as connection:
        connection.execute(text("update holdfast_counter set value = 7"))
        assert stored(url) == 7
    automatic.dispose()


def test_a_session_or_connection_in_autocommit_mode_is_refused(engine: Any, url: str) -> None:
    automatic = engine.execution_options(isolation_level="AUTOCOMMIT")
    with Session(automatic) as session, automatic.connect() as connection:
        for client in (session, connection):
            adopted: Any = holdfast.backends.adopt(client)
            for ask in (lambda: adopted.query(increase()), lambda: adopted.atomic(increase_and_fail)):  # noqa: B023
                with pytest.raises(ConfigurationError, match="autocommit mode is not legal"):
                    ask()
    assert stored(url) is None


def test_a_driver_that_commits_by_itself_is_refused(postgres_url: str) -> None:
    automatic = create_engine(alchemy_url(prepare(postgres_url), "psycopg"), connect_args={"autocommit": True})
    adopted: Any = holdfast.backends.adopt(automatic)
    with pytest.raises(ConfigurationError, match="autocommit mode is not legal"):
        adopted.atomic(increase_and_fail)
    assert stored(postgres_url) is None
    automatic.dispose()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_asyncio_clients_in_autocommit_mode_fare_alike(postgres_url: str, driver: str) -> None:
    prepare(postgres_url)
    automatic = create_async_engine(alchemy_url(postgres_url, driver), isolation_level="AUTOCOMMIT")
    adopted: Any = holdfast.backends.adopt(automatic)
    with pytest.raises(KeyError):
        await adopted.atomic(increase_and_fail)
    assert await adopted.query(increase()) == 1
    async with automatic.connect() as connection, AsyncSession(automatic) as session:
        for client in (connection, session):
            refused: Any = holdfast.backends.adopt(client)
            with pytest.raises(ConfigurationError, match="autocommit mode is not legal"):
                await refused.query(increase())
    await automatic.dispose()


# -- Deadlines ---------------------------------------------------------------------------------------------------------


async def test_an_exhausted_pool_is_waited_for_no_longer_than_the_deadline(url: str) -> None:
    made = create_engine(alchemy_url(url, "psycopg"), pool_size=1, max_overflow=0, pool_timeout=5)
    adopted: Any = holdfast.backends.adopt(made, timeout=0.2)
    with made.connect():
        begun = time.monotonic()
        with pytest.raises(BackendUnavailable):
            adopted.query(increase())
        assert time.monotonic() - begun < 0.6
    # The late connection went back into the pool.
    assert adopted.within(5.0).query(increase()) == 1
    await all_given_back(adopted)
    made.dispose()


@pytest.mark.parametrize("kind", ["engine", "session", "connection"])
def test_a_locked_file_is_waited_for_no_longer_than_the_deadline(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "test.db"
    made = create_engine(prepare(f"sqlite:///{file}"))
    with Session(made) as session, made.connect() as connection, contextlib.closing(sqlite3.connect(file)) as other:
        client = {"engine": made, "session": session, "connection": connection}[kind]
        adopted: Any = holdfast.backends.adopt(client, timeout=0.2)
        other.execute("begin immediate")
        begun = time.monotonic()
        with pytest.raises(BackendUnavailable):
            adopted.query(increase())
        assert 0.15 < time.monotonic() - begun < 0.6
        other.rollback()
        assert adopted.query(increase()) == 1
        ((milliseconds,),) = adopted.execute("pragma busy_timeout")
        assert 0 < milliseconds <= 200, "what is left of the deadline"
        assert connection.exec_driver_sql("pragma busy_timeout").scalar() == 5000
    made.dispose()


# -- What is refused ---------------------------------------------------------------------------------------------------


def test_the_users_own_mistakes_come_as_sqlalchemys_errors(engine: Any) -> None:
    from sqlalchemy.exc import IntegrityError

    with Session(engine) as session:
        adopted: Any = holdfast.backends.adopt(session)
        adopted.execute("insert into orders values (1, 'new')")
        with pytest.raises(IntegrityError):
            adopted.execute("insert into orders values (1, 'new')")


def test_a_password_in_an_engines_url_is_not_shown() -> None:
    made = create_engine("postgresql+psycopg://me:s3cr3t@127.0.0.1:1/db?password=s3cr3t")
    backend: Any = holdfast.backends.adopt(made)
    with pytest.raises(BackendUnavailable) as caught:
        backend.query(increase())
    assert "s3cr3t" not in repr(backend) + str(caught.value) + repr(caught.value.__cause__)


def test_another_database_or_something_else_is_refused_at_once(engine: Any) -> None:
    from sqlalchemy.dialects import mysql
    from sqlalchemy.engine import Engine

    other = Engine(None, mysql.dialect(), None)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="mysql is not legal"):
        holdfast.backends.adopt(other)
    with pytest.raises(ConfigurationError, match="give a Session"):
        holdfast.backends.adopt(text("select 1"))  # type: ignore[call-overload]
