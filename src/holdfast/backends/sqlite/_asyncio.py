"""SQLite for asyncio code: one thread hop per transaction, and all waiting on the event loop.

A hop costs more than the statement it carries (measured: 53 against 17 us for a whole transaction),
so `atomic` runs all of its steps in one hop, as far as they are statements. Only when a step needs
the loop (`Run` of the user's coroutine, `Sleep`) the transaction stays open on its own connection,
and the next hop goes on with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar, TypeVarTuple

from holdfast.backends._backend import DEFAULT_TIMEOUT
from holdfast.backends._surely import surely
from holdfast.backends.sql import Query, Row
from holdfast.backends.sqlite._database import Connection, Database, pause
from holdfast.backends.sqlite._errors import fail, is_busy, waited_too_long, waits_for_itself
from holdfast.backends.sqlite._hop import hop
from holdfast.backends.sqlite._joined import OpenTransaction, fetch_joined
from holdfast.backends.sqlite._steps import StepsInThread
from holdfast.backends.transactions import JoinedAsync, SqlAsync
from holdfast.clock import SYSTEM_CLOCK, Clock
from holdfast.operations import Steps

__all__ = ["SqliteAsync", "SqliteJoinedAsync"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class SqliteAsync(SqlAsync):
    """A SQLite file for asyncio code, shared by the processes of one machine.

    Safe to use from many tasks and several event loops. Tables are made when they are first missing.

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

    async def query(self, request: Query[T]) -> T:
        """Carry out one statement; by itself it commits at once.

        Raises:
            BackendUnavailable: others held the write lock for `timeout` seconds, or the file is unusable.
            OutcomeUnknown: the device failed while it wrote.
        """
        statement, database = request.statement, self.database
        if not (statement.writes or database.alone):
            return request.decode(await self._fetch(request, None))
        deadline = await self._take_turn(statement.name)
        try:
            rows = await self._fetch(request, deadline)
        finally:
            database.turn.give(None)
        return request.decode(rows)

    async def atomic(self, steps: Callable[[], Steps[T]]) -> T:
        """Carry out `steps()` in one transaction, in a single hop as long as they are statements.

        Raises:
            BackendUnavailable: it certainly did not commit.
            OutcomeUnknown: the device failed while it committed.
        """
        deadline = await self._take_turn("begin")
        work = StepsInThread(self.database, steps, self.place)
        try:
            await self._patiently(work.start, "begin", deadline, stop=work.stop)
            if work.request is not None:
                await self._with_the_loop(work)
            return work.result
        finally:
            self.database.turn.holder = None
            if work.opened is not None and work.opened.connection is not None:
                await surely(hop(work.end))
            self.database.turn.give(None)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[SqliteJoinedAsync]:
        """Open a transaction that holds the write lock: commit at the end, roll back on an exception.

        Raises:
            BackendUnavailable: it certainly did not commit.
            OutcomeUnknown: the device failed while it committed.
        """
        deadline = await self._take_turn("begin")
        lease = _Lease(self.database)
        try:
            await self._patiently(lease.begin, "begin", deadline)
            joined = SqliteJoinedAsync(self, lease.opened)
            self.database.turn.holder = asyncio.current_task()
            yield joined
            async with joined.alone:
                await self._patiently(lease.commit, "commit", wrote=True)
        finally:
            self.database.turn.holder = None
            try:
                await surely(lease.end())
            finally:
                self.database.turn.give(None)

    async def aclose(self) -> None:
        """Close the idle connections; a memory database is gone with them."""
        self.database.close()

    async def _with_the_loop(self, work: StepsInThread[Any]) -> None:
        # The transaction stays open while the loop carries out what only the loop can.
        assert work.opened is not None
        joined = SqliteJoinedAsync(self, work.opened)
        self.database.turn.holder = asyncio.current_task()
        cancelled = False
        while (request := work.request) is not None:
            try:
                reply = await (joined._shielded(request) if cancelled else request.carry(joined))  # noqa: SLF001
            except BaseException as error:  # noqa: BLE001 - thrown into the steps, which decide
                cancelled = cancelled or isinstance(error, asyncio.CancelledError)
                await surely(joined.hop_alone(work.go_on, None, error))
            else:
                await joined.hop_alone(work.go_on, reply, None, stop=work.stop)

    async def _fetch(self, request: Query[Any], deadline: float | None) -> list[Row]:
        statement = request.statement
        return await self._patiently(
            lambda: self.database.fetch(statement, request.parameters),
            statement.name,
            deadline,
            wrote=statement.writes,
        )

    async def _take_turn(self, operation: str) -> float | None:
        # Returns the deadline when it had to wait, because the wait for other processes has to keep it too.
        if self.database.turn.take_now() is not None:
            return None
        if self.database.turn.holder is asyncio.current_task():
            raise waits_for_itself(self.place, operation)
        deadline = time.monotonic() + self.timeout
        try:
            await self.database.turn.take_async(self.timeout)
        except TimeoutError:
            raise waited_too_long(self.place, operation, self.timeout) from None
        return deadline

    async def _patiently(
        self,
        attempt: Callable[[], T],
        operation: str,
        deadline: float | None = None,
        *,
        wrote: bool = False,
        stop: Callable[[], None] | None = None,
    ) -> T:
        # Try until the file is not locked any more. While it was, nothing was done.
        deadline = deadline or time.monotonic() + self.timeout
        while True:
            try:
                return await hop(attempt, stop=stop)
            except sqlite3.Error as error:
                if not is_busy(error):
                    fail(error, self.place, operation, wrote=wrote)
                if time.monotonic() >= deadline:
                    raise waited_too_long(self.place, operation, self.timeout) from error
            await asyncio.sleep(pause(self.random))


class _Lease:
    """The connection of one `transaction()`; it knows in the worker thread already what it holds."""

    opened: OpenTransaction

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None

    def begin(self) -> None:
        self._connection = self._database.begin()
        self.opened = OpenTransaction(self._connection, self._connection.fetch)

    def commit(self) -> None:
        assert self._connection is not None
        self._connection.commit()

    async def end(self) -> None:
        if self._connection is not None:
            async with self.opened.alone:  # a task of the user's may still be in there
                self.opened.connection = None
                await hop(self._database.end, self._connection)


class SqliteJoinedAsync(JoinedAsync):
    """An open SQLite transaction as a backend for asyncio code. Its tasks take turns."""

    dialect = "sqlite"

    def __init__(self, owner: SqliteAsync, opened: OpenTransaction) -> None:
        super().__init__(owner.place, timeout=owner.timeout, clock=owner.clock, random=owner.random)
        self._opened = opened
        self.alone = opened.alone

    async def query(self, request: Query[T]) -> T:
        """Carry out one statement in the open transaction.

        Raises:
            BackendUnavailable: the statement failed; the transaction can still be rolled back.
        """
        statement = request.statement
        try:
            rows = await self.hop_alone(fetch_joined, self._opened, statement, request.parameters, self.clock)
        except sqlite3.Error as error:
            fail(error, self.place, statement.name)
        return request.decode(rows)

    async def hop_alone(self, function: Callable[[*Ts], T], *args: *Ts, stop: Callable[[], None] | None = None) -> T:
        """Run `function` in a worker thread while nobody else uses this connection."""
        async with self.alone:
            return await hop(function, *args, stop=stop)
