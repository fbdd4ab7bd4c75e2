"""A `sqlite3.Connection` of the user's own: its open transaction is joined, its settings are kept."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from holdfast.backends.sql import Query, Row, Statement
from holdfast.backends.sqlite._database import pause
from holdfast.backends.sqlite._errors import fail, is_busy, waited_too_long
from holdfast.backends.sqlite._joined import SqliteJoinedSync
from holdfast.backends.transactions import SqlSync

__all__ = ["SqliteAdopted"]

T = TypeVar("T")


class SqliteAdopted(SqlSync):
    """A connection that the user opened, for blocking code.

    While it is in a transaction, everything becomes part of that, and an `atomic` or `transaction()`
    is a savepoint. Otherwise each request is a short transaction of its own. `isolation_level`, row
    factory and `pragma synchronous` stay as they are: choose FULL (SQLite's default) where a commit
    has to survive a power cut. Threads: as the connection itself allows.
    """

    dialect = "sqlite"
    one_connection: bool = True

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__("sqlite3.Connection")
        self.connection = connection

    def query(self, request: Query[T]) -> T:
        """Carry out one statement, in the open transaction if there is one.

        Raises:
            BackendUnavailable: others held the write lock for `timeout` seconds, or the file is unusable.
            OutcomeUnknown: the device failed while it committed.
        """
        if self.connection.in_transaction:
            return SqliteJoinedSync(self, self.connection, self._fetch).query(request)
        with self.transaction() as joined:
            return joined.query(request)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[SqliteJoinedSync]:
        """Open a savepoint in the open transaction, or else a transaction that holds the write lock."""
        joined = SqliteJoinedSync(self, self.connection, self._fetch)
        try:
            if self.connection.in_transaction:
                with joined.transaction():
                    yield joined
            else:
                yield from self._own(joined)
        finally:
            joined.end()

    def _own(self, joined: SqliteJoinedSync) -> Iterator[SqliteJoinedSync]:
        with self._no_busy_handler():
            self._patiently(lambda: self.connection.execute("begin immediate"), "begin", wrote=False)
        try:
            yield joined
            with self._no_busy_handler():
                # As SQL: for a connection opened with `autocommit=True` (Python 3.12) `commit()` does nothing.
                self._patiently(lambda: self.connection.execute("commit"), "commit", wrote=True)
        finally:
            if self.connection.in_transaction:
                self.connection.execute("rollback")

    def _fetch(self, statement: Statement, parameters: Mapping[str, Any]) -> Sequence[Row]:
        cursor = self.connection.cursor()
        cursor.row_factory = None
        return cursor.execute(statement.sql, parameters).fetchall()

    @contextlib.contextmanager
    def _no_busy_handler(self) -> Iterator[None]:
        # The user's own may wait longer than our deadline, and is unfair.
        cursor = self.connection.cursor()
        cursor.row_factory = None
        (milliseconds,) = cursor.execute("pragma busy_timeout").fetchone()
        cursor.execute("pragma busy_timeout = 0")
        try:
            yield
        finally:
            cursor.execute(f"pragma busy_timeout = {int(milliseconds)}")

    def _patiently(self, attempt: Callable[[], object], operation: str, *, wrote: bool) -> None:
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                attempt()
            except sqlite3.Error as error:
                if not is_busy(error):
                    fail(error, self.place, operation, wrote=wrote)
                if time.monotonic() >= deadline:
                    raise waited_too_long(self.place, operation, self.timeout) from error
            else:
                return
            self.sleep(pause(self.random))
