"""An open SQLite transaction as a backend for blocking code."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from holdfast.backends._backend import SyncBackend
from holdfast.backends.migrations import upgrade_with
from holdfast.backends.sql import Query, Row, Statement
from holdfast.backends.sqlite._database import register_functions
from holdfast.backends.sqlite._errors import ended, fail, lacks_function, lacks_tables
from holdfast.backends.transactions import JoinedSync
from holdfast.clock import Clock

__all__ = ["Fetch", "OpenTransaction", "SqliteJoinedSync", "fetch_joined"]

T = TypeVar("T")
# What a statement may find missing on a connection of the user's, one after the other.
MISSING = ("tables", "functions")
Fetch = Callable[[Statement, Mapping[str, Any]], Sequence[Row]]


class OpenTransaction:
    """The connection of an open transaction; copies of a joined backend share it, and its end."""

    __slots__ = ("alone", "connection", "fetch")

    def __init__(self, connection: sqlite3.Connection, fetch: Fetch) -> None:
        self.connection: sqlite3.Connection | None = connection
        self.fetch = fetch
        # Tasks that share the transaction take turns; threads do not share one.
        self.alone = asyncio.Lock()


def fetch_joined(
    opened: OpenTransaction, statement: Statement, parameters: Mapping[str, Any], clock: Clock
) -> Sequence[Row]:
    """Carry out one statement in the open transaction, making its tables in there when they are missing."""
    connection = opened.connection
    if connection is None:
        raise ended()
    for _ in MISSING:
        try:
            return opened.fetch(statement, parameters)
        except sqlite3.OperationalError as error:
            if lacks_function(error):
                register_functions(connection, clock)
            elif statement.schema is not None and lacks_tables(error, statement):
                upgrade_with(opened.fetch, statement.schema, "sqlite")
            else:
                raise
    return opened.fetch(statement, parameters)


class SqliteJoinedSync(JoinedSync):
    """An open SQLite transaction as a backend for blocking code."""

    dialect = "sqlite"

    def __init__(self, owner: SyncBackend, connection: sqlite3.Connection, fetch: Fetch) -> None:
        super().__init__(owner.place, timeout=owner.timeout, clock=owner.clock, random=owner.random)
        self._opened = OpenTransaction(connection, fetch)

    def query(self, request: Query[T]) -> T:
        """Carry out one statement in the open transaction.

        Raises:
            BackendUnavailable: the statement failed; the transaction can still be rolled back.
        """
        try:
            rows = fetch_joined(self._opened, request.statement, request.parameters, self.clock)
        except sqlite3.Error as error:
            fail(error, self.place, request.statement.name)
        return request.decode(rows)

    def end(self) -> None:
        """Refuse everything from now on: the transaction is over."""
        self._opened.connection = None
