"""Links over a SQLAlchemy `Session`, `Connection` or `Engine`, for blocking code."""

from __future__ import annotations

import contextlib
import math
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextvars import copy_context
from functools import partial
from typing import Any

from holdfast.backends._in_thread import BoundedCalls
from holdfast.backends.migrations import upgrade_with
from holdfast.backends.postgres._guard import guard, within
from holdfast.backends.sql import Row, Statement
from holdfast.backends.sqlalchemy._autocommit import options_for, refuse_autocommit
from holdfast.backends.sqlalchemy._spelling import alive, drop, spelled
from holdfast.backends.sqlite._database import register_functions
from holdfast.backends.sqlite._errors import lacks_function, lacks_tables
from holdfast.backends.sqlite._joined import MISSING
from holdfast.backends.transactions import RELEASE, SAVEPOINT, UNDO
from holdfast.clock import SYSTEM_CLOCK

__all__ = ["EngineLinks", "SessionLink"]

_BUSY = "holdfast_busy_timeout"
_BUSY_GRACE_MS = 50
"""What SQLite's driver may wait too long before it is told to wait less."""
_MOST_CONNECTING = 32
"""How many threads may wait for one engine's connections; while all of them hang, nobody else begins to."""


class SessionLink:
    """A `Session` or `Connection`: both begin by themselves, so there is always a transaction to join.

    `owner` is what begins savepoints, so that a Session forgets objects whose rows were undone.
    """

    autocommit = False

    def __init__(self, owner: Any, connection: Callable[[], Any]) -> None:
        self._owner = owner
        self._connection = connection
        self._savepoints: list[Any] = []
        self._driver: Any = None

    def driver(self) -> Any:
        """Return the connection of the driver below, and remember it for when things go wrong.

        Raises:
            ConfigurationError: it has no transactions.
        """
        connection = self._connection()
        refuse_autocommit(connection)
        self._driver = connection.connection.driver_connection
        return self._driver

    def in_transaction(self) -> bool:
        return True

    def alive(self) -> bool:
        return self._driver is None or alive(self._driver)

    def drop(self) -> None:
        if self._driver is not None:
            drop(self._driver)

    def fetch(self, statement: Statement, parameters: Mapping[str, Any], seconds: float) -> list[Row]:
        connection = self._connection()
        driver = self.driver()
        with self._deadline(connection, driver, seconds):
            self._lock_sqlite(connection, driver, statement)
            if statement in _SAVEPOINTS:
                return self._savepoint(statement)
            return self._repaired(connection, statement, parameters)

    def _repaired(self, connection: Any, statement: Statement, parameters: Mapping[str, Any]) -> list[Row]:
        # SQLite's tables, and its functions on the user's connection, are made when they are first missing.
        for _ in MISSING:
            try:
                return _execute(connection, statement, parameters)
            except Exception as error:
                original = getattr(error, "orig", None)
                if original is None or connection.dialect.name != "sqlite":
                    raise
                if lacks_function(original):
                    # Through SQLAlchemy's adapter, for the driver below may be an asynchronous one.
                    register_functions(connection.connection.dbapi_connection, SYSTEM_CLOCK)
                elif statement.schema is not None and lacks_tables(original, statement):
                    upgrade_with(lambda *query: _execute(connection, *query), statement.schema, "sqlite")
                else:
                    raise
        return _execute(connection, statement, parameters)

    def _savepoint(self, statement: Statement) -> list[Row]:
        if statement is SAVEPOINT.statement:
            self._savepoints.append(self._owner.begin_nested())
        elif statement is UNDO.statement:
            self._savepoints[-1].rollback()
        elif (nested := self._savepoints.pop()).is_active:
            nested.commit()
        return []

    @staticmethod
    def _lock_sqlite(connection: Any, driver: Any, statement: Statement) -> None:
        # The driver would begin a deferred transaction, whose first write fails when another wrote meanwhile.
        if connection.dialect.name == "sqlite" and statement.writes and not driver.in_transaction:
            connection.exec_driver_sql("begin immediate")

    @staticmethod
    def _deadline(connection: Any, driver: Any, seconds: float) -> contextlib.AbstractContextManager[None]:
        if connection.dialect.name == "sqlite":
            return _busy_for(connection, seconds)
        return _guarded(driver, seconds)

    def begin(self, seconds: float) -> None:
        """Do nothing: it is begun."""

    def commit(self, seconds: float) -> None:
        """Do nothing: that is the user's."""

    def rollback(self, seconds: float) -> None:
        """Do nothing: that is the user's."""


class EngineLink(SessionLink):
    """A connection that an engine has lent to us: its transactions are ours."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection, lambda: connection)
        self.connection = connection

    def in_transaction(self) -> bool:
        return bool(self.connection.in_transaction())

    def commit(self, seconds: float) -> None:
        with self._deadline(self.connection, self.driver(), seconds):
            # A COMMIT after a failed statement, whose error somebody swallowed, is a ROLLBACK; this is not.
            if self.connection.dialect.name == "postgresql":
                self.connection.exec_driver_sql("select 1")
            self.connection.commit()

    def rollback(self, seconds: float) -> None:
        with _guarded(self.driver(), seconds):
            self.connection.rollback()

    def begin(self, seconds: float) -> None:
        with self._deadline(self.connection, self.driver(), seconds):
            self.connection.begin()
            if self.connection.dialect.name == "sqlite":
                self.connection.exec_driver_sql("begin immediate")


class EngineLinks:
    """An `Engine` as a source of links."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._options = options_for(engine)
        self._calls = _calls_of(engine)
        # A file is opened at once, so there only an exhausted pool is worth the hop to a thread.
        self._is_local = engine.dialect.name == "sqlite"

    def take(self, seconds: float) -> EngineLink:
        """Borrow a connection.

        Raises:
            TimeoutError: the pool, or the server, took longer.
        """
        if self._calls is None or (self._is_local and self._engine.pool.checkedin()):
            return EngineLink(self._connect())
        # Neither can be told how long it may take, so they are waited for from outside. Listeners to the
        # engine's events find the context of the caller.
        connect = partial(copy_context().run, self._connect)
        return EngineLink(self._calls.make(connect, seconds, discard=_close))

    def _connect(self) -> Any:
        connection = self._engine.connect()
        return connection.execution_options(**self._options) if self._options else connection

    def give(self, link: EngineLink) -> None:
        """Give it back; SQLAlchemy rolls back what is open."""
        if not link.alive():
            link.connection.invalidate()
        link.connection.close()

    def close(self) -> None:
        """Leave the user's engine as it is."""


# Of all links on the connections of one engine, so that they are bounded together.
_calls: weakref.WeakKeyDictionary[Any, BoundedCalls] = weakref.WeakKeyDictionary()


def _calls_of(engine: Any) -> BoundedCalls | None:
    from sqlalchemy.pool import QueuePool

    # SQLite's other pools lend connections that only the thread which opened them may use, and never wait.
    if engine.dialect.name == "sqlite" and not isinstance(engine.pool, QueuePool):
        return None
    return _calls.get(engine.pool) or _calls.setdefault(engine.pool, BoundedCalls(_MOST_CONNECTING))


def _close(connection: Any) -> None:
    connection.close()


_SAVEPOINTS = {SAVEPOINT.statement, UNDO.statement, RELEASE.statement}


def _guarded(driver: Any, seconds: float) -> contextlib.AbstractContextManager[None]:
    if not hasattr(driver, "pgconn"):
        return contextlib.nullcontext()
    guard(driver)
    return within(seconds)


def _busy_for(connection: Any, seconds: float) -> contextlib.AbstractContextManager[None]:
    # The user's own busy handler may wait longer than our deadline. Asking it costs as much as a statement, so
    # how long that is is asked once.
    longest, driver = math.ceil(seconds * 1000), connection.connection.dbapi_connection
    if (known := connection.info.get(_BUSY)) is None:
        known = connection.info[_BUSY] = _busy_timeout(driver.cursor())
    return contextlib.nullcontext() if known <= longest + _BUSY_GRACE_MS else _less_busy(driver, longest)


@contextlib.contextmanager
def _less_busy(driver: Any, milliseconds: int) -> Iterator[None]:
    cursor = driver.cursor()
    before = _busy_timeout(cursor)
    cursor.execute(f"pragma busy_timeout = {milliseconds}")
    try:
        yield
    finally:
        cursor.execute(f"pragma busy_timeout = {before}")


def _busy_timeout(cursor: Any) -> int:
    cursor.execute("pragma busy_timeout")
    (milliseconds,) = cursor.fetchone()
    return int(milliseconds)


def _execute(connection: Any, statement: Statement, parameters: Mapping[str, Any]) -> list[Row]:
    result = connection.exec_driver_sql(*spelled(statement, parameters, connection.dialect))
    return [tuple(row) for row in result] if result.returns_rows else []
