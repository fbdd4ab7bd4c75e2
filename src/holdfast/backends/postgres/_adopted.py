"""Connections and pools of the user's own, recognised by name: no driver is imported for it."""

from __future__ import annotations

import select
from collections.abc import Callable, Coroutine
from typing import Any

from holdfast.backends._backend import Backend
from holdfast.backends._single import AsyncSingle, SyncSingle
from holdfast.backends.postgres._asyncpg import AsyncpgLink
from holdfast.backends.postgres._backends import PostgresAsync, PostgresSync
from holdfast.backends.postgres._psycopg import PsycopgAsyncLink, PsycopgLink
from holdfast.errors import ConfigurationError

__all__ = ["adopt"]

# Not readability: on the user's own connection a notification may be waiting.
_CLOSED_BY_PEER = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)


def adopt(client: Any) -> Backend[Any]:
    """Return a backend on `client`.

    Raises:
        ConfigurationError: it is something else of these packages (a cursor, an engine's URL...).
    """
    for base in type(client).__mro__:
        name = f"{base.__module__.partition('.')[0]}.{base.__name__}"
        if (make := _KNOWN.get(name)) is not None:
            return make(client)
    kind = f"{type(client).__module__}.{type(client).__qualname__}"
    message = (
        f"a client of type {kind} is not legal: give a psycopg Connection or AsyncConnection, a "
        "psycopg_pool ConnectionPool or AsyncConnectionPool, or an asyncpg Connection or Pool"
    )
    raise ConfigurationError(message)


def _psycopg(client: Any) -> PostgresSync:
    _check_open(client)
    return PostgresSync(_Single(PsycopgLink(client)), _place(client))


def _psycopg_async(client: Any) -> PostgresAsync:
    _check_open(client)
    return PostgresAsync(_SingleAsync(lambda: PsycopgAsyncLink(client)), _place(client))


def _asyncpg(client: Any) -> PostgresAsync:
    return PostgresAsync(_SingleAsync(lambda: AsyncpgLink(client)), "postgresql (asyncpg)")


def _check_line(link: PsycopgLink | AsyncpgLink | PsycopgAsyncLink) -> None:
    """Refuse a connection that the server has closed, for what is written to it is certainly not done."""
    if link.alive():
        fd = link.fileno()
        poll = select.poll()
        if fd >= 0:
            poll.register(fd, _CLOSED_BY_PEER)
        if not poll.poll(0):
            return
        link.drop()
    raise ConnectionError("the server has closed the connection")


class _Single(SyncSingle[PsycopgLink]):
    """The user's one connection; a lost one is noticed before anything is sent."""

    def take(self, seconds: float) -> PsycopgLink:
        link = super().take(seconds)
        _check_line(link)
        return link


class _SingleAsync(AsyncSingle[Any]):
    """The same for asyncio code."""

    async def take(self, seconds: float) -> Any:
        link = await super().take(seconds)
        _check_line(link)
        return link


def _check_open(connection: Any) -> None:
    # One that was lost is no mistake of its owner's: that is told when it is used, as unavailable.
    if connection.closed and not connection.broken:
        raise ConfigurationError("a client that is closed is not legal: give an open psycopg connection")


def _place(connection: Any) -> str:
    if connection.closed:  # it knows nothing any more, and fails when it is used
        return "postgresql"
    info = connection.info
    return f"postgresql://{info.user}@{info.host}:{info.port}/{info.dbname}"


class _PsycopgPool:
    """A `psycopg_pool.ConnectionPool`."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def take(self, seconds: float) -> PsycopgLink:
        link = PsycopgLink(self._pool.getconn(timeout=seconds))
        try:
            _check_line(link)
        except ConnectionError:
            self.give(link)
            raise
        return link

    def give(self, link: PsycopgLink) -> None:
        self._pool.putconn(link.connection)

    def close(self) -> None:
        """Leave the user's pool open."""


class _PsycopgAsyncPool:
    """A `psycopg_pool.AsyncConnectionPool`."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def take(self, seconds: float) -> PsycopgAsyncLink:
        link = PsycopgAsyncLink(await self._pool.getconn(timeout=seconds))
        try:
            _check_line(link)
        except ConnectionError:
            await self.give(link)
            raise
        return link

    def give(self, link: PsycopgAsyncLink) -> Coroutine[Any, Any, None]:
        return self._pool.putconn(link.connection)  # type: ignore[no-any-return]

    async def close(self) -> None:
        """Leave the user's pool open."""


class _AsyncpgPool:
    """An `asyncpg.Pool`."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def take(self, seconds: float) -> AsyncpgLink:
        link = AsyncpgLink(await self._pool.acquire(timeout=seconds))
        try:
            _check_line(link)
        except ConnectionError:
            await self.give(link)
            raise
        return link

    def give(self, link: AsyncpgLink) -> Coroutine[Any, Any, None]:
        return self._pool.release(link.connection, timeout=1.0)  # type: ignore[no-any-return]

    async def close(self) -> None:
        """Leave the user's pool open."""


_KNOWN: dict[str, Callable[[Any], Backend[Any]]] = {
    "psycopg.Connection": _psycopg,
    "psycopg.AsyncConnection": _psycopg_async,
    "psycopg_pool.ConnectionPool": lambda pool: PostgresSync(_PsycopgPool(pool), "postgresql (psycopg_pool)"),
    "psycopg_pool.AsyncConnectionPool": lambda pool: PostgresAsync(
        _PsycopgAsyncPool(pool), "postgresql (psycopg_pool)"
    ),
    "asyncpg.Connection": _asyncpg,
    "asyncpg.PoolConnectionProxy": _asyncpg,
    "asyncpg.Pool": lambda pool: PostgresAsync(_AsyncpgPool(pool), "postgresql (asyncpg pool)"),
}
