"""Links over psycopg 3, blocking and asyncio."""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Awaitable, Mapping
from typing import Any

from holdfast.backends._links import NotSent
from holdfast.backends.postgres._guard import DEADLINE, DeadlinePassed, guard, within
from holdfast.backends.sql import Row, Statement
from holdfast.errors import MissingExtra

__all__ = ["PsycopgAsyncLink", "PsycopgLink", "psycopg_module"]

# psycopg.pq.TransactionStatus and ExecStatus, as the numbers that libpq gives them.
_IDLE, _UNKNOWN = 0, 4
_TUPLES = 2
_IN_USE = "the connection stayed in use until the time was over"
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR


def psycopg_module() -> Any:
    """Return the driver, imported when it is first needed.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import psycopg
    except ImportError as error:
        message = 'PostgreSQL needs psycopg 3: pip install "holdfast[postgres]"'
        raise MissingExtra(message, extra="postgres") from error
    return psycopg


def _has_rows(cursor: Any) -> bool:
    # `cursor.description` would build a column object for each.
    return cursor.pgresult is not None and int(cursor.pgresult.status) == _TUPLES


class _PsycopgLink:
    """What both colours share: everything that does not wait."""

    def __init__(self, connection: Any, *, ours: bool = False) -> None:
        from psycopg.rows import tuple_row

        guard(connection)
        self.connection = connection
        self._row_factory = tuple_row
        # Making a cursor costs a tenth of a round trip. Nobody else uses a connection of ours meanwhile.
        self._cursor = connection.cursor(row_factory=tuple_row) if ours else None
        self._poll: select.poll | None = None

    @property
    def autocommit(self) -> bool:
        return bool(self.connection.autocommit)

    def in_transaction(self) -> bool:
        return int(self.connection.pgconn.transaction_status) not in {_IDLE, _UNKNOWN}

    def alive(self) -> bool:
        return not self.connection.closed

    def fileno(self) -> int:
        """Return the number of the socket; -1 when there is none any more."""
        return int(self.connection.pgconn.socket) if self.alive() else -1

    def stale(self) -> bool:
        """Tell whether an idle connection has something to say, which is always a goodbye."""
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self.connection.pgconn.socket, _READABLE)
        return bool(self._poll.poll(0))

    def drop(self) -> None:
        # Not `close()`: for an AsyncConnection that is a coroutine. It says goodbye without waiting.
        self.connection.pgconn.finish()

    def _check_commit(self, status: str | None) -> None:
        # A COMMIT after a failed statement, whose error somebody swallowed, is a ROLLBACK.
        if status == "ROLLBACK":
            message = "a statement of this transaction had failed, so COMMIT rolled it back"
            raise psycopg_module().errors.InFailedSqlTransaction(message)


class PsycopgLink(_PsycopgLink):
    """A `psycopg.Connection`; `ours` when nobody else has it."""

    def fetch(self, statement: Statement, parameters: Mapping[str, Any], seconds: float) -> list[Row]:
        cursor = self._cursor or self.connection.cursor(row_factory=self._row_factory)
        before = DEADLINE.set(time.monotonic() + seconds)
        try:
            if self._cursor is None and self.connection.lock.locked():
                self._await_turn(seconds)
            cursor.execute(statement.percent, parameters)
            return cursor.fetchall() if _has_rows(cursor) else []
        finally:
            DEADLINE.reset(before)

    def begin(self, seconds: float) -> None:
        if self.connection.autocommit:  # otherwise psycopg begins by itself
            self._control("begin", seconds)

    def commit(self, seconds: float) -> None:
        if self.in_transaction():
            self._check_commit(self._control("commit", seconds))

    def rollback(self, seconds: float) -> None:
        self._control("rollback", seconds)

    def _control(self, command: str, seconds: float) -> str | None:
        with within(seconds):
            if self.connection.lock.locked():
                self._await_turn(seconds)
            return self.connection.cursor().execute(command).statusmessage  # type: ignore[no-any-return]

    def _await_turn(self, seconds: float) -> None:
        # Another thread is using the connection, perhaps for a statement of the user's without a deadline.
        if not self.connection.lock.acquire(timeout=seconds):
            raise NotSent(_IN_USE)
        self.connection.lock.release()


class PsycopgAsyncLink(_PsycopgLink):
    """A `psycopg.AsyncConnection`. Tasks may share its transaction, so each call has its own cursor."""

    async def fetch(self, statement: Statement, parameters: Mapping[str, Any], seconds: float) -> list[Row]:
        cursor = self._cursor or self.connection.cursor(row_factory=self._row_factory)
        before = DEADLINE.set(time.monotonic() + seconds)
        try:
            if self.connection.lock.locked():
                await self._in_turn(cursor.execute(statement.percent, parameters), seconds)
            else:
                await cursor.execute(statement.percent, parameters)
            return await cursor.fetchall() if _has_rows(cursor) else []
        finally:
            DEADLINE.reset(before)

    async def begin(self, seconds: float) -> None:
        if self.connection.autocommit:  # otherwise psycopg begins by itself
            await self._control("begin", seconds)

    async def commit(self, seconds: float) -> None:
        if self.in_transaction():
            self._check_commit(await self._control("commit", seconds))

    async def rollback(self, seconds: float) -> None:
        await self._control("rollback", seconds)

    async def _control(self, command: str, seconds: float) -> str | None:
        with within(seconds):
            cursor = self.connection.cursor()
            if self.connection.lock.locked():
                await self._in_turn(cursor.execute(command), seconds)
            else:
                await cursor.execute(command)
            return cursor.statusmessage  # type: ignore[no-any-return]

    async def _in_turn(self, executing: Awaitable[Any], seconds: float) -> None:
        # Another task is using the connection, perhaps for a statement of the user's without a deadline.
        try:
            async with asyncio.timeout(seconds):
                await executing
        except TimeoutError as error:
            if isinstance(error, DeadlinePassed) or not self.alive():
                raise
            raise NotSent(_IN_USE) from None
