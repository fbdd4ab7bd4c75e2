"""Links over psycopg 3, blocking and asyncio."""

from __future__ import annotations

import select
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from holdfast.backends.postgres._guard import AsyncGuard, SyncGuard
from holdfast.backends.sql import Row, Statement
from holdfast.errors import MissingExtra

__all__ = ["PsycopgAsyncLink", "PsycopgLink", "psycopg_module"]

G = TypeVar("G", SyncGuard, AsyncGuard)
# psycopg.pq.TransactionStatus and ExecStatus, as the numbers that libpq gives them.
_IDLE, _UNKNOWN = 0, 4
_TUPLES = 2
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


class _PsycopgLink(Generic[G]):
    """What both colours share: everything that does not wait."""

    _guard: G

    def __init__(self, connection: Any, *, ours: bool) -> None:
        from psycopg.rows import tuple_row

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


class PsycopgLink(_PsycopgLink[SyncGuard]):
    """A `psycopg.Connection`; `ours` when nobody else has it."""

    def __init__(self, connection: Any, *, ours: bool = False) -> None:
        super().__init__(connection, ours=ours)
        self._guard = SyncGuard(connection)

    def fetch(self, statement: Statement, parameters: Mapping[str, Any], seconds: float) -> list[Row]:
        cursor = self._cursor or self.connection.cursor(row_factory=self._row_factory)
        self._guard.arm(seconds)
        try:
            cursor.execute(statement.percent, parameters)
            return cursor.fetchall() if _has_rows(cursor) else []
        finally:
            self._guard.disarm()

    def begin(self, seconds: float) -> None:
        if self.connection.autocommit:  # otherwise psycopg begins by itself
            self._control("begin", seconds)

    def commit(self, seconds: float) -> None:
        if self.in_transaction():
            self._check_commit(self._control("commit", seconds))

    def rollback(self, seconds: float) -> None:
        self._control("rollback", seconds)

    def _control(self, command: str, seconds: float) -> str | None:
        with self._guard.within(seconds):
            return self.connection.cursor().execute(command).statusmessage  # type: ignore[no-any-return]


class PsycopgAsyncLink(_PsycopgLink[AsyncGuard]):
    """A `psycopg.AsyncConnection`. Tasks may share its transaction, so each call has its own cursor."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection, ours=False)
        self._guard = AsyncGuard(connection)

    async def fetch(self, statement: Statement, parameters: Mapping[str, Any], seconds: float) -> list[Row]:
        cursor = self._cursor or self.connection.cursor(row_factory=self._row_factory)
        self._guard.arm(seconds)
        try:
            await cursor.execute(statement.percent, parameters)
            return await cursor.fetchall() if _has_rows(cursor) else []
        finally:
            self._guard.disarm()

    async def begin(self, seconds: float) -> None:
        if self.connection.autocommit:  # otherwise psycopg begins by itself
            await self._control("begin", seconds)

    async def commit(self, seconds: float) -> None:
        if self.in_transaction():
            self._check_commit(await self._control("commit", seconds))

    async def rollback(self, seconds: float) -> None:
        await self._control("rollback", seconds)

    async def _control(self, command: str, seconds: float) -> str | None:
        with self._guard.within(seconds):
            cursor = self.connection.cursor()
            return (await cursor.execute(command)).statusmessage  # type: ignore[no-any-return]
