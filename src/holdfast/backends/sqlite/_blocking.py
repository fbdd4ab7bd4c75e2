"""SQLite for blocking code: the calling thread does the work and the waiting."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from threading import get_ident
from typing import Any, TypeVar

from holdfast.backends._backend import DEFAULT_TIMEOUT
from holdfast.backends.sql import Query, Row
from holdfast.backends.sqlite._database import Database, pause
from holdfast.backends.sqlite._errors import fail, is_busy, lacks_tables, waited_too_long, waits_for_itself
from holdfast.backends.sqlite._joined import SqliteJoinedSync
from holdfast.backends.transactions import SqlSync
from holdfast.clock import SYSTEM_CLOCK, Clock

__all__ = ["SqliteSync"]

T = TypeVar("T")


class SqliteSync(SqlSync):
    """A SQLite file for blocking code, shared by the processes of one machine.

    Safe to use from many threads. Tables are made when they are first missing.

    Args:
        path: the file, made when it is missing, or `:memory:` (gone with this object).
        timeout: seconds that a request may wait for the write lock, > 0.
        clock: is `holdfast_now()` and `holdfast_wall()` in SQL.
        random: the dice for jitter.
    """

    dialect = "sqlite"

    def __init__(
        self,
        path: str,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        clock: Clock = SYSTEM_CLOCK,
        random: random.Random | None = None,
    ) -> None:
        super().__init__(f"sqlite:///{path}", timeout=timeout, clock=clock, random=random)
        self.database: Database = Database(path, clock)

    def query(self, request: Query[T]) -> T:
        """Carry out one statement; by itself it commits at once.

        Raises:
            BackendUnavailable: others held the write lock for `timeout` seconds, or the file is unusable.
            OutcomeUnknown: the device failed while it wrote.
        """
        statement, database = request.statement, self.database
        deadline = None
        waits = statement.writes or database.alone
        if waits and database.turn.take_now() is None:
            deadline = self._await_turn(statement.name)
        try:
            connection = database.take()
            try:
                rows = connection.fetch(statement, request.parameters)
            finally:
                database.give(connection)
        except sqlite3.Error as error:
            rows = self._again(request, error, deadline)
        finally:
            if waits:
                database.turn.give(None)
        return request.decode(rows)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[SqliteJoinedSync]:
        """Open a transaction that holds the write lock: commit at the end, roll back on an exception.

        Raises:
            BackendUnavailable: it certainly did not commit.
            OutcomeUnknown: the device failed while it committed.
        """
        database, deadline = self.database, None
        if database.turn.take_now() is None:
            deadline = self._await_turn("begin")
        try:
            connection = self._patiently(database.begin, "begin", deadline)
            database.turn.holder = get_ident()
            joined = SqliteJoinedSync(self, connection, connection.fetch)
            try:
                yield joined
                self._patiently(connection.commit, "commit", wrote=True)
            finally:
                database.turn.holder = None
                joined.end()
                database.end(connection)
        finally:
            database.turn.give(None)

    def close(self) -> None:
        """Close the idle connections; a memory database is gone with them."""
        self.database.close()

    def _again(self, request: Query[Any], error: sqlite3.Error, deadline: float | None) -> list[Row]:
        # The slow path of `query`, whose first try failed with `error`.
        statement = request.statement
        if is_busy(error):
            self.sleep(pause(self.random))
        elif not lacks_tables(error, statement):
            fail(error, self.place, statement.name, wrote=statement.writes)
        return self._patiently(
            lambda: self.database.fetch(statement, request.parameters),
            statement.name,
            deadline,
            wrote=statement.writes,
        )

    def _await_turn(self, operation: str) -> float:
        # Returns the deadline, which the waiting for other processes has to keep as well.
        if self.database.turn.holder == get_ident():
            raise waits_for_itself(self.place, operation)
        deadline = time.monotonic() + self.timeout
        try:
            self.database.turn.take(self.timeout)
        except TimeoutError:
            raise waited_too_long(self.place, operation, self.timeout) from None
        return deadline

    def _patiently(
        self, attempt: Callable[[], T], operation: str, deadline: float | None = None, *, wrote: bool = False
    ) -> T:
        # Try until the file is not locked any more. While it was, nothing was done.
        deadline = deadline or time.monotonic() + self.timeout
        while True:
            try:
                return attempt()
            except sqlite3.Error as error:
                if not is_busy(error):
                    fail(error, self.place, operation, wrote=wrote)
                if time.monotonic() >= deadline:
                    raise waited_too_long(self.place, operation, self.timeout) from error
            self.sleep(pause(self.random))
