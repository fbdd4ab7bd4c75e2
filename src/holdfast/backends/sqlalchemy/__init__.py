"""SQLAlchemy 2 on PostgreSQL or SQLite: what a pattern does becomes part of the session's transaction.

    with Session(engine) as session, session.begin():
        session.add(order)
        Outbox(session).publish("order.created", {"id": order.id})      # both or neither

A `Session`, `AsyncSession`, `Connection` or `AsyncConnection` is joined: its transaction begins by
itself, and holdfast never commits it. On an `Engine` or `AsyncEngine` each request is a transaction.
"""

from __future__ import annotations

from typing import Any

from holdfast.backends._backend import Backend
from holdfast.backends._linked_async import LinkedAsync
from holdfast.backends._linked_sync import LinkedSync
from holdfast.backends._single import AsyncSingle, SyncSingle
from holdfast.backends.postgres._backends import PostgresAsync, PostgresSync
from holdfast.backends.sqlalchemy._asyncio import AsyncEngineLinks, AsyncSessionLink
from holdfast.backends.sqlalchemy._blocking import EngineLinks, SessionLink
from holdfast.backends.sqlalchemy._explain import explain_sqlite
from holdfast.backends.sqlalchemy._spelling import dialect_of
from holdfast.errors import ConfigurationError

__all__ = ["adopt"]


class SqlalchemySqliteSync(LinkedSync):
    """SQLite below SQLAlchemy, for blocking code."""

    dialect = "sqlite"


class SqlalchemySqliteAsync(LinkedAsync):
    """SQLite below SQLAlchemy, for asyncio code."""

    dialect = "sqlite"


def adopt(client: Any) -> Backend[Any]:
    """Use a SQLAlchemy client; the dialect is that of its database.

    Raises:
        ConfigurationError: its database is neither PostgreSQL nor SQLite, it is a registry of sessions, or it
            is no such client.
    """
    from sqlalchemy import Connection, Engine
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_scoped_session
    from sqlalchemy.orm import Session, scoped_session

    if isinstance(client, (scoped_session, async_scoped_session)):
        # It is another session in each thread or task, also in those that renew a lock in the background.
        raise _illegal(client, "give the session of this thread or task (call it: registry()), or the engine")
    if isinstance(client, (Engine, AsyncEngine)):
        dialect_of(client)  # of another database nothing else is asked
    if isinstance(client, Session):
        return _sync(client.get_bind(), SyncSingle(SessionLink(client, client.connection)))
    if isinstance(client, (Connection, AsyncConnection)) and client.closed:
        raise ConfigurationError("a client that is closed is not legal: give an open SQLAlchemy connection")
    if isinstance(client, Connection):
        return _sync(client, SyncSingle(SessionLink(client, lambda: client)))
    if isinstance(client, Engine):
        return _sync(client, EngineLinks(client))
    if isinstance(client, AsyncSession):
        links = AsyncSingle(lambda: AsyncSessionLink(client, _of_session))
        return _async(client.get_bind(), links)
    if isinstance(client, AsyncConnection):
        return _async(client, AsyncSingle(lambda: AsyncSessionLink(client, _of_connection)))
    if isinstance(client, AsyncEngine):
        return _async(client, AsyncEngineLinks(client))
    raise _illegal(client, "give a Session, AsyncSession, Connection, AsyncConnection, Engine or AsyncEngine")


def _illegal(client: Any, legal: str) -> ConfigurationError:
    return ConfigurationError(f"a client of type sqlalchemy.{type(client).__name__} is not legal: {legal}")


def _of_session(session: Any) -> SessionLink:
    return SessionLink(session, session.connection)


def _of_connection(connection: Any) -> SessionLink:
    return SessionLink(connection, lambda: connection)


def _sync(bind: Any, links: Any) -> Backend[Any]:
    if dialect_of(bind) == "sqlite":
        return SqlalchemySqliteSync(links, _place(bind), explain=explain_sqlite)
    return PostgresSync(links, _place(bind))


def _async(bind: Any, links: Any) -> Backend[Any]:
    if dialect_of(bind) == "sqlite":
        return SqlalchemySqliteAsync(links, _place(bind), explain=explain_sqlite)
    return PostgresAsync(links, _place(bind))


def _place(bind: Any) -> str:
    # An engine's URL can hold a password in its query too, so only harmless parts are taken.
    url = bind.engine.url
    return f"sqlalchemy {url.get_backend_name()}://{url.host or ''}/{url.database or ''}"
