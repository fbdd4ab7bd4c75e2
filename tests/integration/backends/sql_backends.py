"""What the tests of the SQL backends share: a small schema, its statements, and every kind of client."""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import holdfast.backends
from holdfast.backends.migrations import migrate
from holdfast.backends.sql import Query, Statement
from holdfast.operations import Atomic, Run, Steps

T = TypeVar("T")
SCHEMA = Path(__file__).parent / "counters"
INCREASE = Statement(
    "increase",
    "insert into holdfast_counter (name, value) values (:name, 1) "
    "on conflict (name) do update set value = holdfast_counter.value + 1 returning value",
    SCHEMA,
)
VALUE = Statement("value", "select value from holdfast_counter where name = :name", SCHEMA)


def _first(rows: Any) -> Any:
    return rows[0][0] if rows else None


def increase(name: str = "a") -> Query[int]:
    """Add one to a counter; the reply is its new value."""
    return Query(INCREASE, {"name": name}, _first)


def value(name: str = "a") -> Query[int | None]:
    """Ask for a counter; None when it was never increased."""
    return Query(VALUE, {"name": name}, _first)


def increase_twice() -> Steps[int]:
    """Add one, twice."""
    yield from increase()
    return (yield from increase())


def increase_and_fail() -> Steps[int]:
    """Add one, then raise a KeyError."""
    yield from increase()
    raise KeyError("as the test wants it")


def with_failing_part() -> Steps[int]:
    """Add one, and one in a part that fails and is caught."""
    yield from increase()
    with contextlib.suppress(KeyError):
        yield from Atomic(increase_and_fail)
    return (yield from increase())


def calling(function: Callable[[Any], Any]) -> Callable[[], Steps[Any]]:
    """Return steps that add one and call `function` with the open transaction."""

    def steps() -> Steps[Any]:
        yield from increase()
        return (yield from Run(function, join=True))

    return steps


async def now(answer: Any) -> Any:
    """Await `answer` if it is awaitable: so a test reads alike for both colours."""
    return await answer if inspect.isawaitable(answer) else answer


@asynccontextmanager
async def entered(context: Any) -> AsyncIterator[Any]:
    """Enter a context manager of either colour."""
    if isinstance(context, AbstractAsyncContextManager):
        async with context as entry:
            yield entry
    else:
        with context as entry:
            yield entry


# -- Every kind of client: name -> a context that yields (client, commit). `commit` is None when holdfast commits. -----

Opened = AsyncIterator[tuple[Any, Callable[[], Any] | None]]


@asynccontextmanager
async def _url_sync(url: str) -> Opened:
    with holdfast.backends.connect(url) as backend:
        yield backend, None


@asynccontextmanager
async def _url_async(url: str) -> Opened:
    async with holdfast.backends.connect_async(url) as backend:
        yield backend, None


@asynccontextmanager
async def _sqlite3(url: str) -> Opened:
    import sqlite3

    with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        yield connection, None


@asynccontextmanager
async def _psycopg(url: str) -> Opened:
    import psycopg

    with psycopg.connect(url) as connection:
        yield connection, None


@asynccontextmanager
async def _psycopg_autocommit(url: str) -> Opened:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        yield connection, None


@asynccontextmanager
async def _psycopg_pool(url: str) -> Opened:
    import psycopg_pool

    with psycopg_pool.ConnectionPool(url, open=True, min_size=1) as pool:
        yield pool, None


@asynccontextmanager
async def _psycopg_async(url: str) -> Opened:
    import psycopg

    async with await psycopg.AsyncConnection.connect(url) as connection:
        yield connection, None


@asynccontextmanager
async def _psycopg_async_pool(url: str) -> Opened:
    import psycopg_pool

    async with psycopg_pool.AsyncConnectionPool(url, open=False, min_size=1) as pool:
        yield pool, None


@asynccontextmanager
async def _asyncpg(url: str) -> Opened:
    import asyncpg

    connection = await asyncpg.connect(url)
    yield connection, None
    await connection.close()


@asynccontextmanager
async def _asyncpg_pool(url: str) -> Opened:
    import asyncpg

    async with asyncpg.create_pool(url, min_size=1) as pool:
        yield pool, None


def alchemy_url(url: str, driver: str) -> str:
    """Spell a URL as SQLAlchemy wants it."""
    return url.replace("postgresql://", f"postgresql+{driver}://")


@contextlib.contextmanager
def engine(url: str) -> Iterator[Any]:
    """Yield a SQLAlchemy engine."""
    from sqlalchemy import create_engine

    made = create_engine(alchemy_url(url, "psycopg"))
    yield made
    made.dispose()


@asynccontextmanager
async def async_engine(url: str, driver: str) -> AsyncIterator[Any]:
    """Yield a SQLAlchemy async engine."""
    from sqlalchemy.ext.asyncio import create_async_engine

    made = create_async_engine(alchemy_url(url, driver))
    yield made
    await made.dispose()


@asynccontextmanager
async def _engine(url: str) -> Opened:
    with engine(url) as made:
        yield made, None


@asynccontextmanager
async def _session(url: str) -> Opened:
    from sqlalchemy.orm import Session

    with engine(url) as made, Session(made) as session:
        yield session, session.commit


@asynccontextmanager
async def _connection(url: str) -> Opened:
    with engine(url) as made, made.connect() as connection:
        yield connection, connection.commit


def _async_alchemy(kind: str, driver: str) -> Any:
    @asynccontextmanager
    async def opened(url: str) -> Opened:
        from sqlalchemy.ext.asyncio import AsyncSession

        async with async_engine(url, driver) as made:
            if kind == "engine":
                yield made, None
            else:
                async with AsyncSession(made) if kind == "session" else made.connect() as client:
                    yield client, client.commit

    return opened


async def all_given_back(backend: Any) -> None:
    """Wait until what connected too late to a SQLAlchemy engine is back in its pool, which can be disposed of then."""
    links = backend.links

    def connecting() -> int:
        if hasattr(links, "_leaving"):
            return len(links._leaving)
        return links._calls._limit - len(links._calls._places._items)  # type: ignore[no-any-return]

    while connecting():  # noqa: ASYNC110 - nobody sets an event for it
        await asyncio.sleep(0.005)


SQLITE_CLIENTS = {
    "sqlite": _url_sync,
    "sqlite-async": _url_async,
    "sqlite3": _sqlite3,
    "sqlite-engine": _engine,
    "sqlite-session": _session,
    "sqlite-connection": _connection,
}
POSTGRES_CLIENTS = {
    "postgres": _url_sync,
    "postgres-async": _url_async,
    "psycopg": _psycopg,
    "psycopg-autocommit": _psycopg_autocommit,
    "psycopg-pool": _psycopg_pool,
    "psycopg-async": _psycopg_async,
    "psycopg-async-pool": _psycopg_async_pool,
    "asyncpg": _asyncpg,
    "asyncpg-pool": _asyncpg_pool,
    "alchemy-engine": _engine,
    "alchemy-session": _session,
    "alchemy-connection": _connection,
    **{
        f"alchemy-{driver}-{kind}": _async_alchemy(kind, driver)
        for driver in ("psycopg", "asyncpg")
        for kind in ("engine", "session", "connection")
    },
}


def prepare(url: str) -> str:
    """Make the tables and return the URL."""
    with holdfast.backends.connect(url) as backend:
        migrate(backend, [SCHEMA])
    return url


def stored(url: str, name: str = "a") -> int | None:
    """Ask for what is committed, from outside."""
    with holdfast.backends.connect(url) as backend:
        return value(name).carry(backend)  # type: ignore[no-any-return]


async def gathered(count: int, make: Callable[[int], Awaitable[T]]) -> list[T]:
    """Await `make(0)` to `make(count - 1)` at the same time."""
    return list(await asyncio.gather(*(make(number) for number in range(count))))
