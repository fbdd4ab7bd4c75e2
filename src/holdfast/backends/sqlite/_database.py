"""One SQLite file as one process sees it: its connections and the turn to write.

Measured reasons for how it is done:

- Every transaction begins with `BEGIN IMMEDIATE`. A deferred one that reads first and writes later
  fails at once with SQLITE_BUSY when another wrote in between; waiting cannot help it.
- SQLite's own busy handler is unfair (one process made 500 times the commits of another), so its
  timeout is 0 and whoever finds the file locked tries again after a random 0.2 to 5 ms.
- Writers of this process queue fairly for one turn first, so only one of them contends for the file.
- `synchronous` is FULL for what must survive a power cut and NORMAL for the rest, 8 times faster. It
  is a property of the connection, so it is changed when the next write needs the other one.
- Memory mapping stays off: it makes SQLite's known WAL corruption worse.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import threading
import weakref
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast.backends import _fork
from holdfast.backends._fair import FairPool
from holdfast.backends.migrations import upgrade_with
from holdfast.backends.sql import Row, Statement
from holdfast.backends.sqlite._errors import is_busy, lacks_tables
from holdfast.clock import Clock

__all__ = ["MEMORY", "Connection", "Database", "pause", "register_functions"]

MEMORY = ":memory:"
_MAX_IDLE = 16
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.0002, 0.005
_CACHED_STATEMENTS = 256


def pause(dice: random.Random) -> float:
    """Return how long to wait before trying a locked file again: 0.2 to 5 ms."""
    return dice.uniform(_SHORTEST_PAUSE, _LONGEST_PAUSE)


def register_functions(connection: sqlite3.Connection, clock: Clock) -> None:
    """Give SQL the clocks: `holdfast_now()` is monotonic and `holdfast_wall()` since 1970, in seconds.

    On Linux the monotonic clock is the same for all processes of the machine and starts again with a
    reboot, so a stored moment that lies in the future was stored before one.
    """
    connection.create_function("holdfast_now", 0, clock.monotonic)
    connection.create_function("holdfast_wall", 0, clock.wall)


class Connection(sqlite3.Connection):
    """A connection that knows its `synchronous` setting and closes itself when it is forgotten."""

    durable: bool = False

    def fetch(self, statement: Statement, parameters: Mapping[str, Any]) -> list[Row]:
        """Carry out one statement, in the open transaction or by itself."""
        if statement.writes and statement.durable is not self.durable and not self.in_transaction:
            self.sync(full=statement.durable)
        return self.execute(statement.sql, parameters).fetchall()

    def begin(self) -> None:
        """Begin a transaction that holds the write lock and whose commit survives a power cut."""
        if not self.durable:
            self.sync(full=True)
        self.execute("begin immediate")

    def sync(self, *, full: bool) -> None:
        """Choose whether a commit waits for the disk."""
        self.execute("pragma synchronous = full" if full else "pragma synchronous = normal")
        self.durable = full

    def __del__(self) -> None:
        with contextlib.suppress(sqlite3.ProgrammingError):  # it could not even be opened
            self.close()


class Database:
    """The connections of this process to one file (or one memory) and the turn to write to it.

    Args:
        path: a file, made when it is missing, or `:memory:`.
        clock: what `holdfast_now()` and `holdfast_wall()` return.
    """

    def __init__(self, path: str, clock: Clock) -> None:
        self.path = path
        self.clock = clock
        self.alone: bool = path == MEMORY
        """There is one connection only, so reads wait for their turn as well."""
        self._idle: deque[Connection] = deque()
        self._opened: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._closed = False
        self.turn: Turn = Turn() if self.alone else _turn_of(path)
        _fork.remember(self)

    def take(self) -> Connection:
        """Borrow a connection, opening one if none is idle.

        Raises:
            sqlite3.Error: it could not be opened; `is_busy` tells whether to try again.
        """
        try:
            return self._idle.pop()
        except IndexError:
            return self._open()

    def give(self, connection: Connection) -> None:
        """Give a connection back; one with an open transaction is closed instead, which rolls back."""
        if len(self._idle) < _MAX_IDLE and not connection.in_transaction:
            self._idle.append(connection)
            # Looked at after it was laid down: whichever comes second, this or `close`, sees the other.
            if self._closed:
                self._close_idle()
        else:
            connection.close()

    def begin(self) -> Connection:
        """Borrow a connection and begin a transaction that holds the write lock.

        Raises:
            sqlite3.Error: nothing was begun; `is_busy` tells whether to try again.
        """
        connection = self.take()
        try:
            connection.begin()
        except BaseException:
            self.give(connection)
            raise
        return connection

    def end(self, connection: Connection) -> None:
        """Roll back what is still open and give the connection back."""
        try:
            connection.rollback()  # does nothing after a commit
        finally:
            self.give(connection)

    def fetch(self, statement: Statement, parameters: Mapping[str, Any]) -> list[Row]:
        """Carry out one statement by itself, making its tables first when they are missing.

        Raises:
            sqlite3.Error: nothing was done; `is_busy` tells whether to try again.
        """
        connection = self.take()
        try:
            try:
                return connection.fetch(statement, parameters)
            except sqlite3.OperationalError as error:
                if statement.schema is None or not lacks_tables(error, statement):
                    raise
                self._migrate(connection, statement.schema)
            return connection.fetch(statement, parameters)
        finally:
            self.give(connection)

    def _migrate(self, connection: Connection, schema: Path) -> None:
        # Once in the life of a file, so it does not matter that it waits outside of the queue.
        connection.begin()
        try:
            upgrade_with(connection.fetch, schema, "sqlite")
            connection.commit()
        finally:
            connection.rollback()

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they are given back."""
        # A request that comes later still gets a connection, but none is kept.
        self._closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _open(self) -> Connection:
        # Every call to SQLite is made by one thread at a time, but not always by the same one.
        connection = sqlite3.connect(
            self.path,
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_CACHED_STATEMENTS,
            factory=Connection,
        )
        try:
            _prepare(connection)
        except BaseException:
            connection.close()
            raise
        register_functions(connection, self.clock)
        self._opened.add(connection)
        return connection

    def forget_inherited(self) -> None:
        """After a fork: leave the parent's connections alone, and never close them.

        Closing the last connection to a file also tidies up its write-ahead log, under the feet of
        the parent whose locks this process does not have. So they are leaked, as SQLite's own advice
        is ("How to corrupt an SQLite database file", section 2.6).
        """
        _fork.leak(self._opened)
        self._idle, self._opened = deque(), weakref.WeakSet()
        self.turn = Turn() if self.alone else _turn_of(self.path)


def _prepare(connection: Connection) -> None:
    # Changing the journal mode needs the file for itself for a moment, so ask before. When somebody has it
    # locked this connection goes on as the file is; it follows when the next one succeeds.
    if connection.execute("pragma journal_mode").fetchone()[0] not in {"wal", "memory"}:
        try:
            connection.execute("pragma journal_mode = wal")
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
    connection.execute("pragma foreign_keys = on")
    connection.sync(full=False)


class Turn(FairPool[None]):
    """The turn to write to one file."""

    holder: object = None
    """The thread or task that has a transaction open: it would wait for itself."""

    def __init__(self) -> None:
        super().__init__((None,))


_turns: weakref.WeakValueDictionary[str, Turn] = weakref.WeakValueDictionary()
_turns_lock = threading.Lock()


def _turn_of(path: str) -> Turn:
    key = os.path.realpath(path)
    with _turns_lock:
        turn = _turns.get(key)
        if turn is None:
            turn = _turns[key] = Turn()
        return turn


def _after_fork() -> None:
    global _turns_lock, _turns  # another thread of the parent may have held this lock
    _turns_lock, _turns = threading.Lock(), weakref.WeakValueDictionary()


# Before the databases are told, for they ask for new turns then.
_fork.first(_after_fork)
